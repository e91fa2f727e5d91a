// Package bakefile reads bake files: docker-bake.hcl, docker-bake.json and compose.yaml. What they mean is decided by
// docker buildx's own package, in a program that warmlayer contains.
//
//	d, err := bakefile.Read(ctx, bakefile.Request{Dir: ".", Environ: os.Environ(), Targets: []string{"default"}})
//	for _, t := range d.Targets {
//		tags := t.Inputs["tags"] // as the input tags takes them
//	}
//
// The program is made by go generate, as make, the image and the releases do. It is 41 MB large, 11 MB of them
// compressed in warmlayer, and is only started for a bake file: most of it are the parsers of HCL, of Compose files and of
// policies, which would make each start of warmlayer 8 ms slower.
package bakefile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/warmlayer/warmlayer/internal/packed"
)

//go:generate go run ../packed/generate reader programs/*/reader.zst $GOARCH

// Request says which targets of which files are built, as the arguments of docker buildx bake do.
type Request struct {
	Dir     string   // where paths start; "": the process's working directory
	Environ []string // the variables of the files take their values from it

	Files   []string          // none: the files that buildx looks for in Dir
	Targets []string          // names and patterns of targets and groups; none: default
	Set     []string          // "TARGET.ATTRIBUTE=VALUE", with patterns of targets
	Vars    map[string]string // values of variables, in place of the environment's
	Allow   []string          // entitlements: "network.host", "fs.read=../shared"
}

// Definition is what bake files ask for.
type Definition struct {
	Targets []Target // sorted by their names: those that were asked for, and those that these have as contexts
	Missing []string // entitlements that the targets need and were not given, as in Request.Allow
}

// Read reads bake files. The errors are for the user.
func Read(ctx context.Context, r Request) (Definition, error) {
	question, err := json.Marshal(r)
	if err != nil {
		return Definition{}, err
	}
	dir, err := os.MkdirTemp("", "warmlayer-bake")
	if err != nil {
		return Definition{}, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "reader")
	if err := unpack(program); err != nil {
		return Definition{}, err
	}
	var said, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir, cmd.Env = r.Dir, r.Environ
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(question), &said, &complaint
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(complaint.String()); text != "" {
			err = errors.New(text)
		}
		return Definition{}, err
	}
	return parse(said.Bytes())
}

// unpack writes the program to a file.
func unpack(file string) error {
	program, err := packed.Read(programs, "programs/"+runtime.GOARCH+"/reader.zst")
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("this warmlayer was built without the reader of bake files; use a released one, or run go generate ./internal/bakefile before go build")
	}
	if err != nil {
		return err
	}
	// A process that is forked meanwhile would have the file open for writing, and until it ends the program could not be started.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(file, program, 0o700)
}

// parse reads the program's answer.
func parse(text []byte) (Definition, error) {
	var a struct {
		Target  map[string]attributes
		Missing []string
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return Definition{}, fmt.Errorf("read what the bake files say: %w", err)
	}
	d := Definition{Missing: a.Missing}
	for _, name := range slices.Sorted(maps.Keys(a.Target)) {
		t, err := a.Target[name].target(name)
		if err != nil {
			return Definition{}, fmt.Errorf("target %s: %w", name, err)
		}
		d.Targets = append(d.Targets, t)
	}
	return d, nil
}
