package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestScripts runs testdata/script: each file is one behaviour of the program, with its
// environment, its files and its output. Of this process's variables a script sees only PATH. It
// has its own $WORK, its HOME does not exist yet, and $BIN has only the program. In addition to
// testscript's own commands there are
//
//	exits CODE PROGRAM [ARG...]  run a program, which must end with this exit code
//	says LINE...                 check that it printed this on stderr, and nothing on stdout
//	needs PROGRAM...             skip the script when one is missing: testkit.Need
//	registry                     start a registry; its host and port are in $REGISTRY
//	app DIR                      copy the test app, with the files of its base image
//	load FILE                    set the variables in a file of NAME=value lines, and
//	                             empty those of the previous file
//	set NAME FILE                set one variable to the content of a file
//	outputs FILE                 print the outputs in GITHUB_OUTPUT, as name=value
//	tags REPOSITORY              print the tags that a registry has of a repository
//	platforms IMAGE              print the platforms of an index with their digests, sorted
//	digests IMAGE DIR            write a file for each of these, with the digest as its name
//	untouched                    check that no file was made, changed or removed in $WORK
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:         "testdata/script",
		WorkdirRoot: testkit.Temp(t),
		Setup:       setup(programAlone(t)),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     command(2, exits),
			"says":      command(1, says),
			"needs":     command(1, needs),
			"registry":  command(0, registry),
			"app":       command(1, app),
			"load":      command(1, load),
			"set":       command(2, set),
			"outputs":   command(1, outputs),
			"tags":      command(1, tags),
			"platforms": command(1, platforms),
			"digests":   command(2, digests),
			"untouched": command(0, untouched),
		},
		RequireUniqueNames: true,
		UpdateScripts:      *update,
	})
}

// Keys of the values that setup stores for the commands.
type (
	testKey   struct{} // the script's testing.TB
	filesKey  struct{} // the files of $WORK at the beginning
	loadedKey struct{} // the names of the variables that load has set
)

func setup(bin string) func(*testscript.Env) error {
	return func(env *testscript.Env) error {
		env.Setenv("BIN", bin)
		env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
		env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
		files, err := filesOf(env.WorkDir)
		env.Values[testKey{}], env.Values[filesKey{}], env.Values[loadedKey{}] = env.T(), files, &[]string{}
		return err
	}
}

// programAlone is a directory that has only the program.
func programAlone(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	program, err := os.ReadFile(testkit.Program(t))
	if err == nil {
		err = os.WriteFile(filepath.Join(bin, "warmlayer"), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// command wraps a command that takes at least so many arguments, and refuses "!".
func command(atLeast int, run func(*testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < atLeast {
			ts.Fatalf("this command takes at least %d arguments, without !", atLeast)
		}
		run(ts, args)
	}
}

func test(ts *testscript.TestScript) testing.TB { return ts.Value(testKey{}).(testing.TB) }

func exits(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code, err = exit.ExitCode(), nil
	}
	ts.Check(err)
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func says(ts *testscript.TestScript, lines []string) {
	if got, want := ts.ReadFile("stderr"), strings.Join(lines, "\n")+"\n"; got != want {
		ts.Fatalf("stderr is\n%swant\n%s", got, want)
	}
	if got := ts.ReadFile("stdout"); got != "" {
		ts.Fatalf("stdout is\n%s", got)
	}
}

func needs(ts *testscript.TestScript, programs []string) {
	for _, program := range programs {
		_, err := exec.LookPath(program)
		if program == "runc" {
			program = "buildkitd" // which needs it
		}
		testkit.Need(test(ts), program, err)
	}
}

func registry(ts *testscript.TestScript, _ []string) {
	ts.Setenv("REGISTRY", testkit.StartRegistry(test(ts)).Host)
}

func app(ts *testscript.TestScript, args []string) {
	ts.Check(os.CopyFS(ts.MkAbs(args[0]), os.DirFS(testkit.App(test(ts)))))
}

func load(ts *testscript.TestScript, args []string) {
	loaded := ts.Value(loadedKey{}).(*[]string)
	for _, name := range *loaded {
		ts.Setenv(name, "")
	}
	*loaded = nil
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			ts.Fatalf("%s: no = in %q", args[0], line)
		}
		ts.Setenv(name, os.Expand(value, ts.Getenv))
		*loaded = append(*loaded, name)
	}
}

func set(ts *testscript.TestScript, args []string) {
	ts.Setenv(args[0], os.Expand(ts.ReadFile(args[1]), ts.Getenv))
}

// outputs parses GitHub's file by the rules of the runner: name<<delimiter, the lines of the value,
// and the delimiter on its own line.
func outputs(ts *testscript.TestScript, args []string) {
	rest := ts.ReadFile(args[0])
	for rest != "" {
		head, after, _ := strings.Cut(rest, "\n")
		name, delimiter, ok := strings.Cut(head, "<<")
		value, end, found := strings.Cut("\n"+after, "\n"+delimiter+"\n")
		if !ok || !found {
			ts.Fatalf("%s: not an output: %q", args[0], head)
		}
		fmt.Fprintf(ts.Stdout(), "%s=%s\n", name, strings.TrimPrefix(value, "\n"))
		rest = end
	}
}

func tags(ts *testscript.TestScript, args []string) {
	named, err := reference.ParseNormalizedNamed(args[0])
	ts.Check(err)
	repository, err := syntax.Repository(named, false)
	ts.Check(err)
	all, err := remote.List(repository)
	ts.Check(err)
	slices.Sort(all)
	fmt.Fprintln(ts.Stdout(), strings.Join(all, "\n"))
}

// manifests are the digests of an index's images by platform.
func manifests(ts *testscript.TestScript, image string) map[string]v1.Hash {
	ref, err := name.ParseReference(image)
	ts.Check(err)
	index, err := remote.Index(ref)
	ts.Check(err)
	all, err := index.IndexManifest()
	ts.Check(err)
	found := map[string]v1.Hash{}
	for _, m := range all.Manifests {
		if m.Annotations["vnd.docker.reference.type"] == "" {
			found[m.Platform.String()] = m.Digest
		}
	}
	return found
}

func platforms(ts *testscript.TestScript, args []string) {
	found := manifests(ts, args[0])
	for _, p := range slices.Sorted(maps.Keys(found)) {
		fmt.Fprintln(ts.Stdout(), p, found[p])
	}
}

func digests(ts *testscript.TestScript, args []string) {
	for _, d := range manifests(ts, args[0]) {
		ts.Check(os.MkdirAll(args[1], 0o755))
		ts.Check(os.WriteFile(filepath.Join(args[1], d.Hex), nil, 0o644))
	}
}

func untouched(ts *testscript.TestScript, _ []string) {
	before := ts.Value(filesKey{}).(map[string][]byte)
	after, err := filesOf(ts.Getenv("WORK"))
	ts.Check(err)
	if !maps.EqualFunc(before, after, bytes.Equal) {
		ts.Fatalf("the files changed from %q to %q", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
}

// filesOf are the paths below a directory, with the content of files and nil for directories.
func filesOf(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	return files, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			files[path] = nil
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	})
}
