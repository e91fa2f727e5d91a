// Command patch copies BuildKit's module with this project's changes, and prints the path of a
// go.mod that requires the copy. The daemon in the image is built so:
//
//	go build -modfile "$(go run ./internal/patch DIR)" github.com/moby/buildkit/cmd/buildkitd
//
// Each change names its text in the version of BuildKit that go.mod requires. When a new version
// lacks that text the command fails, and someone looks whether the change is still needed.
// go build -overlay would need no copy, but refuses files of the module cache.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "github.com/moby/buildkit"

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

// write replaces dir by the changed module and a go.mod with its go.sum, and returns the path of
// the go.mod. The working directory is in this project's module.
func write(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	var original struct{ Module struct{ Dir string } } // go list downloads it
	if err := describe(&original, "list", "-json=Module", module+"/version"); err != nil {
		return "", err
	}
	target := filepath.Join(dir, "buildkit")
	if err := os.RemoveAll(target); err != nil {
		return "", err
	}
	if err := os.CopyFS(target, os.DirFS(original.Module.Dir)); err != nil { // also makes dir
		return "", fmt.Errorf("copy BuildKit's module: %w", err)
	}
	for _, c := range changes {
		if err := c.apply(target); err != nil {
			return "", err
		}
	}
	return writeModfile(dir, target)
}

// writeModfile copies this module's go.mod and go.sum into dir, with BuildKit from target.
func writeModfile(dir, target string) (string, error) {
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
	return modfile, exec.Command("go", "mod", "edit", "-replace", module+"="+target, modfile).Run()
}

// describe decodes what a go command prints as JSON.
func describe(into any, args ...string) error {
	out, err := exec.Command("go", args...).Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// change is what changes in one file of the module.
type change struct {
	file  string
	edits []edit
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
