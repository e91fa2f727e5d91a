package testkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Report is the part of warmlayer.json that tests read.
type Report struct {
	OK       bool                                      `json:"ok"`
	Error    string                                    `json:"error"`
	Builder  string                                    `json:"builder"`
	State    string                                    `json:"state"`
	Network  []struct{ Builder, Steps, Reason string } `json:"network"`
	Digest   string                                    `json:"digest"`
	ImageID  string                                    `json:"imageid"`
	Retried  string                                    `json:"retried"`
	Warnings []string                                  `json:"warnings"`
	Steps    []struct {
		Name   string `json:"name"`
		Cached bool   `json:"cached"`
	} `json:"steps"`
	Images []struct {
		Target, Digest string
		Tags           []string
		Hits, Steps    int
		Metadata       map[string]any
	}
	Sources []struct{ Cache, Name, Why, State, Error string }       `json:"sources"`
	Exports []struct{ Cache, Name, Outcome, Error string }          `json:"exports"`
	Misses  []struct{ Stage, Platform, Step, Reason, Scope string } `json:"misses"`
	Mounts  []Mount                                                 `json:"mounts"`
	Phases  []struct {
		Name    string
		Seconds float64
	} `json:"phases"`
	Timings []Timing `json:"timings"`
}

// Timing is a part of a run, in seconds since its begin.
type Timing struct {
	Name           string
	Start, Seconds float64
}

// Mount is a cache mount that a step used.
type Mount struct {
	ID              string
	Restored, Saved *Moved
	Reason, Error   string
}

// Moved is a restore or a save of a cache mount.
type Moved struct {
	Scope   string
	Bytes   int64
	Files   int
	Seconds float64
}

// Cached counts the steps that were cached.
func (r Report) Cached() int {
	n := 0
	for _, s := range r.Steps {
		if s.Cached {
			n++
		}
	}
	return n
}

// Phase is the duration of a phase in seconds; 0: the phase did not occur.
func (r Report) Phase(name string) float64 {
	for _, p := range r.Phases {
		if p.Name == name {
			return p.Seconds
		}
	}
	return 0
}

// Source is the state of the named scope; "": it is not among the sources.
func (r Report) Source(name string) string {
	for _, s := range r.Sources {
		if s.Name == name {
			return s.State
		}
	}
	return ""
}

// Outcome is the outcome of the only export; "": there was no export.
func (r Report) Outcome(t testing.TB) string {
	t.Helper()
	if len(r.Exports) > 1 {
		t.Fatalf("%d exports", len(r.Exports))
	}
	if len(r.Exports) == 0 {
		return ""
	}
	return r.Exports[0].Outcome
}

// Invocation is one run of the program on the test app.
type Invocation struct {
	Dir    string            // the working directory and the context: an App
	Branch string            // "": from the environment
	Args   []string          // more flags
	Env    map[string]string // added to the few variables that a run has
	Docker string            // directory of a Docker config; "": an empty one
	Report string            // directory of the report; "": a new one
	Stdin  string            // content of standard input
}

// Output is the result of a run of the program: its output, its files and its exit code.
type Output struct {
	Report Report
	Code   int
	Text   string // stdout and stderr
	Files  string // content of all files of the report, and of GitHub's files
}

// Build runs the program, and fails the test unless it succeeds.
func (r Invocation) Build(t testing.TB) Report {
	t.Helper()
	out := r.Start(t)
	if out.Code != 0 {
		t.Fatalf("exit code %d:\n%s", out.Code, out.Text)
	}
	return out.Report
}

// Start runs the program to its end, and returns for any exit code. Its default builder, without
// one in Args and in INPUT_BUILDER of Env, is an empty embedded one.
func (r Invocation) Start(t testing.TB) Output {
	t.Helper()
	return StartAll(t, r)[0]
}

// StartAll is [Invocation.Start] for several runs at once.
func StartAll(t testing.TB, runs ...Invocation) []Output {
	t.Helper()
	started, texts, reports := make([]*exec.Cmd, len(runs)), make([]bytes.Buffer, len(runs)), make([]string, len(runs))
	for i, r := range runs {
		started[i], reports[i] = r.Command(t)
		started[i].Stdout, started[i].Stderr = &texts[i], &texts[i]
	}
	var failed error
	for _, cmd := range started {
		failed = errors.Join(failed, cmd.Start())
	}
	outputs := make([]Output, len(runs))
	for i, cmd := range started {
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			failed = errors.Join(failed, err)
			continue
		}
		outputs[i] = Output{Code: cmd.ProcessState.ExitCode(), Text: texts[i].String()}
		outputs[i].read(t, reports[i])
	}
	if failed != nil {
		t.Fatal(failed)
	}
	return outputs
}

// read reads the files of the report.
func (o *Output) read(t testing.TB, dir string) {
	t.Helper()
	for _, file := range []string{"warmlayer.json", "warmlayer.md", "warmlayer.env"} {
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err == nil && file == "warmlayer.json" {
			err = json.Unmarshal(content, &o.Report)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		o.Files += string(content)
	}
}

// Command is the program, ready to be started, and the directory of its reports.
func (r Invocation) Command(t testing.TB) (*exec.Cmd, string) {
	t.Helper()
	for _, part := range []string{"buildkitd", "runc"} {
		_, err := exec.LookPath(part)
		Need(t, "buildkitd", err)
	}
	reports := r.Report
	if reports == "" {
		reports = filepath.Join(t.TempDir(), "report")
	}
	args := []string{"build", "--progress", "plain", "--report-dir", reports}
	if !slices.Contains(r.Args, "--default-branch") {
		args = append(args, "--default-branch", "main")
	}
	if r.Branch != "" {
		args = append(args, "--branch", r.Branch)
	}
	if !r.inCI() && !slices.ContainsFunc(r.Args, func(arg string) bool { return strings.HasPrefix(arg, "--trusted") }) {
		args = append(args, "--trusted") // tests have no terminal
	}
	if !slices.Contains(r.Args, "--builder") && r.Env["INPUT_BUILDER"] == "" {
		args = append(args, "--builder", "embedded")
	}
	cmd := exec.Command(Program(t), append(args, r.Args...)...)
	docker := r.Docker
	if docker == "" {
		docker = t.TempDir()
	}
	env := map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": t.TempDir(), "TMPDIR": Temp(t), "DOCKER_CONFIG": docker,
		// A provenance contains the time of the build: without it, equal images are equal byte for
		// byte.
		"BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
	}
	maps.Copy(env, r.Env)
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Dir, cmd.Stdin = r.Dir, strings.NewReader(r.Stdin)
	return cmd, reports
}

// inCI tells whether the run's environment is that of a CI, which shows whether it is trusted.
func (r Invocation) inCI() bool {
	for _, name := range []string{"CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE"} {
		if r.Env[name] != "" {
			return true
		}
	}
	return false
}

// Program is the path of warmlayer, compiled once for all tests.
func Program(t testing.TB) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var program = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "warmlayer")
	compile := exec.Command("go", "build", "-o", path, ".")
	compile.Dir = root
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// moduleRoot is the directory with go.mod, above the directory of the test.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.Join(errors.New("no go.mod above the test"), err)
}

// ImagePath is a PATH on which the image's buildkitd comes first, made up to date once for all tests.
func ImagePath(t testing.TB) string {
	t.Helper()
	path, err := imageDaemon()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path) + string(filepath.ListSeparator) + os.Getenv("PATH")
}

var imageDaemon = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "image", "buildkitd")
	if out, err := exec.Command("make", "-C", root, path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("make %s: %w\n%s", path, err, out)
	}
	return path, nil
})

// App is a copy of the test app with the files of its base image. A test may change it.
func App(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	tar, err := rootfs()
	Need(t, "busybox", err)
	dir := filepath.Join(t.TempDir(), "app")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "testdata", "app"))); err != nil {
		t.Fatal(err)
	}
	Write(t, filepath.Join(dir, "rootfs.tar"), string(tar))
	return dir
}

var rootfs = sync.OnceValues(func() ([]byte, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rootfs-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "rootfs.tar")
	if out, err := exec.Command(filepath.Join(root, "testdata", "rootfs.sh"), path).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.ReadFile(path)
})

// Write writes a file, for a test to change an app.
func Write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Awaits is a command for a step's shell that ends when a file is not empty, or after half a minute; if the condition, which
// is a command, fails, it only takes some time. A step with it is stopped for the sake of its mount before it does anything.
func Awaits(file, condition string) string {
	return "if " + condition + "; then for i in $(seq 600); do [ -s " + file + " ] && break; sleep 0.05; done; " +
		"else head -c 300000000 /dev/zero | md5sum > /dev/null; fi"
}
