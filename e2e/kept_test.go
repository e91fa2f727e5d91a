package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// keptRun is a build on a builder that keeps its state.
func keptRun(app, registry, branch, state string, more ...string) testkit.Invocation {
	return testkit.Invocation{Dir: app, Branch: branch, Args: append([]string{
		"--push", "--tags", registry + "/o/app:" + branch, "--builder", "embedded", "--builder-state", state,
	}, more...)}
}

// TestKeptBuilder: the second build on a kept state moves no layer, and a branch has what main has built.
func TestKeptBuilder(t *testing.T) {
	t.Parallel()
	registry, log := testkit.StartFaulty(t, testkit.StartRegistry(t).Host), &accesses{}
	registry.Break(func(*http.Request) bool { return true }, log.serve)
	app, state := testkit.App(t), filepath.Join(testkit.Temp(t), "state")
	for i, branch := range []string{"main", "main", "feature"} {
		report := keptRun(app, registry.Host, branch, state).Build(t)
		cache, push := log.take()
		if report.State != "kept in "+state {
			t.Errorf("build %d: state %q", i, report.State)
		}
		if i == 0 {
			continue
		}
		layers := slices.DeleteFunc(slices.Concat(cache, push), func(line string) bool {
			who, request, _ := strings.Cut(line, " ")
			checksPush := who == "warmlayer" && strings.Contains(request, "/uploads/")
			return !strings.Contains(request, "/blobs/") || strings.HasPrefix(request, http.MethodHead) || checksPush
		})
		// The cache config of the scope, and the image's own config and provenance, are blobs that are no layers.
		t.Logf("build %d: %d requests of the cache, %d of the push, blobs:\n%s", i, len(cache), len(push), strings.Join(layers, "\n"))
		if report.Cached() != len(report.Steps) || len(layers) > 6 {
			t.Errorf("build %d: %d of %d steps cached, and these blobs moved:\n%s", i, report.Cached(), len(report.Steps), strings.Join(layers, "\n"))
		}
	}
}

// TestKeptBuilderUntrusted: an untrusted run neither uses nor keeps a state.
func TestKeptBuilderUntrusted(t *testing.T) {
	t.Parallel()
	app, state := testkit.App(t), filepath.Join(testkit.Temp(t), "state")
	out := testkit.Invocation{Dir: app, Branch: "main", Args: []string{
		"--outputs", "type=cacheonly", "--cache", "type=local,dest=" + testkit.Temp(t), "--builder", "embedded", "--builder-state", state, "--trusted=false",
	}}.Start(t)
	if _, err := os.Stat(state); !os.IsNotExist(err) || out.Code != 0 || out.Report.State != "" || !strings.Contains(out.Text, "builder-state is not used: ") {
		t.Errorf("%v, exit code %d:\n%s", err, out.Code, out.Text)
	}
}

// TestKeptBuilderFull: where the disk of a kept state is full the build is repeated on an empty builder, and succeeds. The next run
// starts with an empty state.
func TestKeptBuilderFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a small file system needs root")
	}
	app, disk := testkit.App(t), testkit.Temp(t)
	if err := unix.Mount("small", disk, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	state := filepath.Join(disk, "state")
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nRUN dd if=/dev/urandom of=/large bs=1M count=32\n")
	run := testkit.Invocation{Dir: app, Branch: "main", Args: []string{
		"--outputs", "type=cacheonly", "--cache", "type=local,dest=" + testkit.Temp(t), "--builder", "embedded", "--builder-state", state,
	}}
	out := run.Start(t)
	if out.Code != 0 || out.Report.State != "removed from "+state+": the disk was full" || !strings.Contains(out.Text, "builder-state: the disk was full") {
		t.Fatalf("exit code %d, state %q:\n%s", out.Code, out.Report.State, out.Text)
	}
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nRUN echo small > /small\n")
	if out = run.Start(t); out.Code != 0 || out.Report.State != "kept in "+state {
		t.Errorf("the next run: exit code %d, state %q:\n%s", out.Code, out.Report.State, out.Text)
	}
}

// TestKeptBuilderInContext: a state in the build context is not sent with it.
func TestKeptBuilderInContext(t *testing.T) {
	t.Parallel()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCOPY . /src\nRUN test ! -e /src/state\n")
	run := testkit.Invocation{Dir: app, Branch: "main", Args: []string{
		"--outputs", "type=cacheonly", "--cache", "type=local,dest=" + testkit.Temp(t), "--builder", "embedded", "--builder-state", "state",
	}}
	for i := range 2 {
		if r := run.Build(t); i > 0 && r.Cached() != len(r.Steps) {
			t.Errorf("%d of %d steps cached", r.Cached(), len(r.Steps))
		}
	}
}

// TestKeptBuilderMounts: a cache mount that a kept builder has is newer than the one in the cache, and stays. Each round leaves a
// file in the mount, and the second does not save it. A step that is stopped for its mount runs twice, so its runs are not counted.
func TestKeptBuilderMounts(t *testing.T) {
	t.Parallel()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCOPY round /\nRUN --mount=type=cache,target=/cache touch /cache/$(cat /round) && echo rounds: /cache/*\n")
	state, cache, want := filepath.Join(testkit.Temp(t), "state"), "type=local,dest="+testkit.Temp(t), "rounds:"
	for round, more := range [][]string{nil, {"--cache-write", "never"}, nil} {
		name := strconv.Itoa(round)
		testkit.Write(t, filepath.Join(app, "round"), name)
		out := testkit.Invocation{Dir: app, Branch: "main", Args: append([]string{
			"--outputs", "type=cacheonly", "--cache", cache, "--cache-mounts", "auto", "--builder", "embedded", "--builder-state", state,
		}, more...)}.Start(t)
		if want += " /cache/" + name; out.Code != 0 || !strings.Contains(out.Text, want+"\n") {
			t.Errorf("exit code %d, want %q:\n%s", out.Code, want, out.Text)
		}
	}
}
