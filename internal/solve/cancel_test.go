package solve_test

import (
	"bytes"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestFailingStep: a failure of the user's code is reported, and the build is not repeated.
func TestFailingStep(t *testing.T) {
	t.Parallel()
	p, app := newProxy(t), testkit.App(t)
	cache := []string{"--cache", p.cache("one").Line}
	build(app, cache...).Build(t)
	dockerfile, err := os.ReadFile(filepath.Join(app, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(app, "Dockerfile"), string(dockerfile)+"RUN echo the end; false\n")
	before := manifest(t, p.cache("one"), "b-main")
	out := build(app, cache...).Start(t)
	if out.Code != 1 || out.Report.Retried != "" || out.Report.Source("b-main") != "loaded" || out.Report.Outcome(t) != "skipped" {
		t.Errorf("exit code %d, retried %q, sources %v, exports %v", out.Code, out.Report.Retried, out.Report.Sources, out.Report.Exports)
	}
	if runs := regexp.MustCompile(`(?m)^#\d+ [\d.]+ the end$`).FindAllString(out.Text, -1); len(runs) != 1 {
		t.Errorf("the step ran %d times:\n%s", len(runs), out.Text)
	}
	if !regexp.MustCompile(`(?m)^  error +Dockerfile:\d+: RUN echo the end; false: exit code 1$`).MatchString(out.Text) {
		t.Errorf("the report does not name the step:\n%s", out.Text)
	}
	if after := manifest(t, p.cache("one"), "b-main"); !bytes.Equal(before.Raw, after.Raw) {
		t.Error("a failed build wrote the cache")
	}
}

// watched is the output of a running program.
type watched struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// TestCancelled: while a step runs a signal ends the build within five seconds. No file, process or
// mount remains, and the cache is unchanged.
func TestCancelled(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]os.Signal{"SIGTERM": syscall.SIGTERM, "Ctrl-C": os.Interrupt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app, dir := testkit.App(t), filepath.Join(testkit.Temp(t), "cache")
			cache := []string{"--cache", "type=local,dest=" + dir}
			build(app, cache...).Build(t)
			before := tree(t, dir)
			testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nRUN echo the step runs && sleep 1000\n")
			cancelled(t, build(app, cache...), shows("the step runs"), signal)
			if after := tree(t, dir); after != before {
				t.Errorf("the cache changed from\n%s to\n%s", before, after)
			}
		})
	}
}

// TestCancelledImport: the same holds while a store that is asked for the cache does not answer. BuildKit
// asks it for the manifest where it imports a cache natively, and for layers in all ways.
func TestCancelledImport(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		for _, part := range []string{"manifest", "layer"} {
			if part == "manifest" && way.merged {
				continue // the gateway has it in memory
			}
			t.Run(way.name+"/"+part, func(t *testing.T) {
				t.Parallel()
				p, app := newProxy(t), testkit.App(t)
				cache := p.cache("one")
				run := func() testkit.Invocation { return build(app, way.args(t, p)...) } // on an empty builder
				run().Build(t)
				before := manifest(t, cache, "b-main")
				change(t, app)
				asked := []func(*http.Request) bool{path("/one/manifests/"), byBuildKit}
				if part == "layer" {
					asked = []func(*http.Request) bool{blob(base(before)), method("GET")}
				}
				var reached atomic.Bool
				p.misbehave(func(w http.ResponseWriter, r *http.Request) {
					reached.Store(true)
					hang(w, r)
				}, asked...)
				cancelled(t, run(), func(string, string) bool { return reached.Load() }, syscall.SIGTERM)
				p.behave()
				unchanged(t, cache, before)
			})
		}
	}
}

// TestKilled: the next build removes everything that a killed build has left behind.
func TestKilled(t *testing.T) {
	t.Parallel()
	app, temp := testkit.App(t), testkit.Temp(t)
	r := build(app, "--cache", "type=local,dest="+filepath.Join(testkit.Temp(t), "cache"))
	r.Env = map[string]string{"TMPDIR": temp}
	dockerfile, err := os.ReadFile(filepath.Join(app, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nRUN echo the step runs && sleep 1000\n")
	signalled(t, r, shows("the step runs"), syscall.SIGKILL)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), string(dockerfile))
	r.Build(t)
	nothingLeft(t, temp)
}

// stage reports whether a build has come to the stage at which it is signalled. It gets the
// output and the directory for temporary files.
type stage func(output, temp string) bool

// shows is the stage at which the output contains a text.
func shows(text string) stage {
	return func(output, _ string) bool { return strings.Contains(output, text) }
}

// cancelled runs a build, signals it at a stage, and checks how it ends.
func cancelled(t *testing.T, r testkit.Invocation, when stage, signal os.Signal) {
	t.Helper()
	temp, env := testkit.Temp(t), map[string]string{}
	maps.Copy(env, r.Env)
	env["TMPDIR"] = temp
	r.Env = env
	cmd, out := signalled(t, r, when, signal)
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	nothingLeft(t, temp)
}

// signalled runs a build, signals it at a stage, and waits for its end.
func signalled(t *testing.T, r testkit.Invocation, when stage, signal os.Signal) (cmd *exec.Cmd, text string) {
	t.Helper()
	cmd, _ = r.Command(t)
	var out watched
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its exit code is checked below
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	testkit.Until(t, "the stage", func() bool { return when(out.String(), r.Env["TMPDIR"]) })
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatalf("it still runs after five seconds:\n%s", out.String())
	}
	return cmd, out.String()
}

// nothingLeft checks that no file, process or mount remains of a daemon whose files were in dir.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left := tree(t, dir); left != "" {
		t.Errorf("files remain:\n%s", left)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(commands, "/proc/self/mounts") {
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(dir)) {
			t.Errorf("%s holds %q", file, text)
		}
	}
}

// tree is every file below a directory, with its size.
func tree(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-mindepth", "1", "-printf", "%P %s %T@\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
