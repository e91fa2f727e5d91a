// Command patch copies the modules of BuildKit and containerd with this project's changes, and prints the path of a
// go.mod that requires the copies. The daemon in the image is built so:
//
//	go build -modfile "$(go run ./internal/patch DIR)" github.com/moby/buildkit/cmd/buildkitd
//
// Each change names its text in the version of the module that go.mod requires. When a new version
// lacks that text the command fails, and someone looks whether the change is still needed.
// go build -overlay would need no copy, but refuses files of the module cache.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "patch: the argument is the directory to write to")
		os.Exit(2)
	}
	modfile, err := write(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "patch:", err)
		os.Exit(1)
	}
	fmt.Println(modfile)
}

// write replaces dir by the changed modules and a go.mod with its go.sum, and returns the path of
// the go.mod. The working directory is in this project's module.
func write(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	modfile, err := copyModfile(dir)
	if err != nil {
		return "", err
	}
	copies := map[string]string{} // by module
	for _, c := range changes {
		if copies[c.module] == "" {
			if copies[c.module], err = copyModule(c.module, dir); err != nil {
				return "", fmt.Errorf("copy module %s: %w", c.module, err)
			}
			replace := exec.Command("go", "mod", "edit", "-replace", c.module+"="+copies[c.module], modfile)
			if out, err := replace.CombinedOutput(); err != nil {
				return "", fmt.Errorf("%v: %w\n%s", replace, err, out)
			}
			if c.module == buildkit {
				if err := addFlate(copies[c.module]); err != nil {
					return "", fmt.Errorf("copy compress/flate: %w", err)
				}
			}
		}
		if err := c.apply(copies[c.module]); err != nil {
			return "", err
		}
	}
	return modfile, nil
}

// copyModfile makes dir, with this module's go.mod and go.sum.
func copyModfile(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	var own struct{ GoMod string }
	if err := describe(&own, "list", "-m", "-json"); err != nil {
		return "", err
	}
	sums := strings.TrimSuffix(own.GoMod, ".mod") + ".sum"
	modfile := filepath.Join(dir, "go.mod")
	for from, to := range map[string]string{own.GoMod: modfile, sums: filepath.Join(dir, "go.sum")} {
		content, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, content, 0o644)
		}
		if err != nil {
			return "", err
		}
	}
	return modfile, nil
}

// copyModule copies a module to a new directory in dir, and returns its path.
func copyModule(module, dir string) (string, error) {
	var original struct{ Module struct{ Dir string } } // go list downloads what has the package
	if err := describe(&original, "list", "-find", "-json=Module", module+"/version"); err != nil {
		return "", err
	}
	target := filepath.Join(dir, filepath.FromSlash(module))
	if err := os.RemoveAll(target); err != nil {
		return "", err
	}
	return target, os.CopyFS(target, os.DirFS(original.Module.Dir))
}

// describe decodes what a go command prints as JSON.
func describe(into any, args ...string) error {
	out, err := output(args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// output is what a go command prints.
func output(args ...string) ([]byte, error) {
	out, err := exec.Command("go", args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// change is what changes in one file of a module.
type change struct {
	module string
	file   string
	edits  []edit
}

// edit replaces a text that occurs once.
type edit struct{ old, new string }

// apply changes the file in a copy of the module.
func (c change) apply(dir string) error {
	path := filepath.Join(dir, c.file)
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := string(content)
	for _, e := range c.edits {
		if n := strings.Count(text, e.old); n != 1 {
			return fmt.Errorf("%s has this text %d times, not once: adapt or remove the change in internal/patch\n%s", c.file, n, e.old)
		}
		text = strings.Replace(text, e.old, e.new, 1)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
