package solve_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// logging is an app whose step shows what it found in its cache mount, and leaves the page there.
const logging = `FROM scratch
ADD rootfs.tar /
COPY site site
RUN --mount=type=cache,target=/made `

// logs is that step. One that is to find something waits for it.
func logs(restored bool) string {
	condition := "false"
	if restored {
		condition = "true"
	}
	return logging + testkit.Awaits("/made/log", condition) + "; cp -a /made /found; rm -f /made/*; cat site/index.txt | tee /made/log > /made/$(head -c 6 site/index.txt)\n"
}

// page writes the app's page, and its Dockerfile.
func page(t *testing.T, app, content string, restored bool) {
	t.Helper()
	testkit.Write(t, filepath.Join(app, "Dockerfile"), logs(restored))
	testkit.Write(t, filepath.Join(app, "site", "index.txt"), content+"\n")
}

// TestCacheMountsUnchanged: a build that runs no step asks the store for no byte of a mount.
func TestCacheMountsUnchanged(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	app, c := testkit.App(t), p.cache("mounts")
	page(t, app, "first", false)
	auto := []string{"--cache-mounts", "auto"}
	mounts(t, app, "main", c.Line, auto...)
	kept := manifest(t, c, "b-main.cache-mounts-"+mountsOfMain)
	var mu sync.Mutex
	var asked []string
	p.misbehave(hang, func(r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		for _, l := range kept.Layers {
			if blob(l.Digest)(r) {
				asked = append(asked, r.Method+" "+r.URL.Path)
			}
		}
		return false
	})
	r, _, _ := mounts(t, app, "main", c.Line, auto...)
	allCached(t, r)
	mu.Lock()
	defer mu.Unlock()
	if len(kept.Layers) == 0 || len(asked) > 0 {
		t.Errorf("of %d blobs %v", len(kept.Layers), asked)
	}
}

// TestCacheMountsUnsaved: a mount whose save is refused or not answered costs one warning, and the next build finds what
// was saved before, whole.
func TestCacheMountsUnsaved(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	app, c := testkit.App(t), p.cache("mounts")
	page(t, app, "first", false)
	mounts(t, app, "main", c.Line, "--cache-mounts", "auto")
	for content, fault := range map[string]http.HandlerFunc{"second": status(http.StatusForbidden, "DENIED"), "third": hang} {
		page(t, app, content, true)
		p.misbehave(fault, method(http.MethodPut), path("cache-mounts"))
		r, out, dir := mounts(t, app, "main", c.Line, "--cache-mounts", "auto", "--cache-timeout", "10s")
		p.behave()
		if found := text(t, dir, "found", "log") + text(t, dir, "found", "first"); found != "first\nfirst\n" {
			t.Errorf("found %q", found)
		}
		if len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0], "cache mounts: /made: not saved to registry ") {
			t.Errorf("%q\n%s", r.Warnings, out.Text)
		}
	}
}

// TestCacheMountsWriters: of two builds that save one scope at once, one is kept, whole.
func TestCacheMountsWriters(t *testing.T) {
	t.Parallel()
	c := testkit.Cache{Line: "type=local,dest=" + t.TempDir()}
	var both sync.WaitGroup
	for _, content := range []string{"first", "other"} {
		app := testkit.App(t)
		page(t, app, content, false)
		run := build(app, "--cache", c.Line, "--cache-mounts", "auto", "--outputs", "type=cacheonly")
		both.Go(func() {
			if out := run.Start(t); out.Code != 0 || len(out.Report.Warnings) > 0 {
				t.Errorf("%q\n%s", out.Report.Warnings, out.Text)
			}
		})
	}
	both.Wait()
	app := testkit.App(t)
	page(t, app, "third", true)
	_, _, dir := mounts(t, app, "main", c.Line, "--cache-mounts", "auto")
	found := strings.TrimSpace(text(t, dir, "found", "log"))
	if found != "first" && found != "other" || text(t, dir, "found", found) != found+"\n" {
		t.Errorf("found %q", found)
	}
}

// TestCacheMountsFullDisk: a mount that does not fit on the builder's disk is left empty, with one warning.
func TestCacheMountsFullDisk(t *testing.T) {
	t.Parallel()
	app, line, small := testkit.App(t), "type=local,dest="+t.TempDir(), t.TempDir()
	file := func(more string) {
		testkit.Write(t, filepath.Join(app, "Dockerfile"), logging+"head -c 300000000 /dev/zero | md5sum; ls /made > /found; "+more+"\n")
	}
	file("head -c 150000000 /dev/urandom > /made/large")
	mounts(t, app, "main", line, "--cache-mounts", "auto")
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=120m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(small, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	file("echo small > /made/small")
	run := build(app, "--cache", line, "--cache-mounts", "auto", "--cache-write", "never", "--outputs", "type=local,dest="+small+"/out")
	run.Env = map[string]string{"TMPDIR": small}
	out := run.Start(t)
	if out.Code != 0 || len(out.Report.Warnings) != 1 || !strings.HasPrefix(out.Report.Warnings[0], "cache mounts: /made: not restored: ") {
		t.Errorf("%q\n%s", out.Report.Warnings, out.Text)
	}
	if found := text(t, small, "out", "found"); found != "" {
		t.Errorf("found %q", found)
	}
}

// TestCacheMountsInterrupted: a build that ends while it restores a mount leaves nothing of it on a builder that stays:
// the next build there finds all of it.
func TestCacheMountsInterrupted(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]os.Signal{"SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, app := newProxy(t), testkit.App(t)
			c := p.cache("mounts")
			page(t, app, "first", false)
			mounts(t, app, "main", c.Line, "--cache-mounts", "auto")
			kept := manifest(t, c, "b-main.cache-mounts-"+mountsOfMain)
			page(t, app, "second", true)
			var reached atomic.Bool
			p.misbehave(func(w http.ResponseWriter, r *http.Request) {
				reached.Store(true)
				hang(w, r)
			}, method(http.MethodGet), blob(kept.Layers[1].Digest))
			builder := testkit.StartBuildkitd(t)
			args := []string{"--cache-mounts", "auto", "--builder", builder}
			signalled(t, build(app, append(args, "--cache", c.Line)...), func(string, string) bool { return reached.Load() }, signal)
			awaitIdle(t, builder)
			p.behave()
			_, out, dir := mounts(t, app, "main", c.Line, args...)
			if found := text(t, dir, "found", "log") + text(t, dir, "found", "first"); found != "first\nfirst\n" {
				t.Errorf("found %q\n%s", found, out.Text)
			}
		})
	}
}

// awaitIdle waits until a builder has given up the builds whose clients have ended. Until then a build with the same step waits for
// theirs, in place of its own.
func awaitIdle(t *testing.T, address string) {
	t.Helper()
	c, err := client.New(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for active := true; active; {
		events, err := c.ControlClient().ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{ActiveOnly: true, EarlyExit: true})
		if err != nil {
			t.Fatal(err)
		}
		active = false
		for {
			event, err := events.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			active = active || event.GetRecord().GetCompletedAt() == nil
		}
	}
}

// TestCacheMountsUntrusted: an untrusted build finds the mounts, and writes nothing.
func TestCacheMountsUntrusted(t *testing.T) {
	t.Parallel()
	app, dir := testkit.App(t), t.TempDir()
	line := "type=local,dest=" + dir
	page(t, app, "first", false)
	mounts(t, app, "main", line, "--cache-mounts", "auto")
	before := tree(t, dir)
	page(t, app, "second", true)
	r, out, image := mounts(t, app, "feature", line, "--cache-mounts", "auto", "--trusted=false")
	if found := text(t, image, "found", "log"); found != "first\n" {
		t.Errorf("found %q", found)
	}
	if after := tree(t, dir); after != before || len(r.Mounts) != 1 || r.Mounts[0].Saved != nil {
		t.Errorf("%+v; the store was\n%s, and is\n%s\n%s", r.Mounts, before, after, out.Text)
	}
}
