package load

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/step"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// use is what a process uses.
type use struct {
	goroutines, connections, descriptors int
	heap                                 uint64 // bytes that are reachable
}

// measure counts the goroutines and descriptors of connections apart: an idle one ends after 90 s,
// which is longer than a build that uses it.
func measure(t *testing.T) use {
	t.Helper()
	var u use
	for _, to := range descriptors(t) {
		if strings.HasPrefix(to, "socket:") {
			u.connections++
		} else {
			u.descriptors++
		}
	}
	for stack := range strings.SplitSeq(goroutines(), "\n\n") {
		if !strings.Contains(stack, "net/http.(*persistConn)") {
			u.goroutines++
		}
	}
	runtime.GC()
	runtime.GC() // the first one ran finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.heap = m.HeapAlloc
	return u
}

// descriptors are what the descriptors of this process refer to.
func descriptors(t *testing.T) (all []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil { // the directory itself is closed
			all = append(all, to)
		}
	}
	return all
}

// within tells whether the process uses no more than before: caches of the libraries fill up to their
// bounds. In the long form connections must have ended too.
func (u use) within(before use) bool {
	const more, heap = 8, 16 << 20
	idle := !testkit.Soak() || u.connections <= before.connections
	return u.goroutines <= before.goroutines+more && u.descriptors <= before.descriptors+more && u.heap <= before.heap+heap && idle
}

// idleTime is longer than a connection stays idle.
const idleTime = 2 * time.Minute

// TestInOneProcess: many builds in one process leave no goroutine, descriptor or memory in use. It
// does not run beside other tests, which use the same process.
func TestInOneProcess(t *testing.T) { //nolint:paralleltest // see above
	s, app, registry := newShared(t), testkit.App(t), testkit.StartRegistry(t)
	s3 := testkit.StartS3(t)
	t.Setenv("TMPDIR", s.dir("tmp")) // some libraries use the process's own
	args := []string{
		"--builder", testkit.StartBuildkitd(t), "--trusted", "--branch", "main", "--default-branch", "main", "--progress", "plain",
		"--report-dir", s.dir("report"), "--cache", s.cache().Line, "--cache", s3.Line(""), "--tags", registry.Repository() + ":v1", "--push",
	}
	build := func(change string) {
		testkit.Write(t, filepath.Join(app, "site", "index.txt"), "Page\n\n"+change)
		s.inProcess(t, app, args)
	}
	for range 3 { // they fill what stays
		build("a")
		build("b")
	}
	before, files := measure(t), s.finishedFiles(t)
	var now use
	t.Cleanup(func() {
		t.Logf("before %+v, after %+v; descriptors %q", before, now, descriptors(t))
		if t.Failed() {
			t.Log(descriptors(t), goroutines())
		}
	})
	for i := range testkit.Long(20, 200) {
		build(string("ab"[i%2]))
	}
	tick, late := time.NewTicker(100*time.Millisecond), time.After(idleTime)
	defer tick.Stop()
	for now = measure(t); !now.within(before); now = measure(t) {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the process uses more than before")
		}
	}
	if after := s.finishedFiles(t); !maps.Equal(files, after) {
		t.Errorf("the files were\n%v\nand are\n%v", files, after)
	}
}

// finishedFiles are the files without the cache's blobs: every changed build adds a manifest, and the
// one that it replaces stays until a reset.
func (s shared) finishedFiles(t *testing.T) map[string]int64 {
	t.Helper()
	files := s.files(t)
	maps.DeleteFunc(files, func(path string, _ int64) bool { return strings.HasPrefix(path, "/cache/blobs/") })
	return files
}

// inProcess builds as the program does, in this process.
func (s shared) inProcess(t *testing.T, app string, args []string) {
	t.Helper()
	var environ []string
	for name, value := range s.environ() {
		environ = append(environ, name+"="+value)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	dialect, facts := ci.Detect(ci.Machine{Environ: environ, ReadFile: os.ReadFile})
	in, problems := inputs.ParseJob(args, environ, app, inputs.Job{})
	redactor := report.NewRedactor(in.Sensitive())
	run, found := step.Resolve(in, facts, step.Host{
		Environ: environ, CI: dialect, Redactor: redactor, Version: "test", Stdout: out, Stderr: out,
	})
	if problems = append(problems, found...); len(problems) > 0 {
		t.Fatal(problems)
	}
	if code := run.Build(t.Context()); code != step.ExitOK {
		said, _ := os.ReadFile(out.Name())
		t.Fatalf("exit code %d:\n%s", code, said)
	}
}

// goroutines are the stacks of all goroutines of this process, with an empty line between them.
func goroutines() string {
	stacks := make([]byte, 16<<20)
	return string(stacks[:runtime.Stack(stacks, true)])
}
