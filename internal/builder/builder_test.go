package builder_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"

	"github.com/warmlayer/warmlayer/internal/builder"
)

func TestEmbeddedBuildsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	b := open(t, in(dir, builder.Options{Address: embedded}))

	if !b.Managed {
		t.Error("Managed = false for a builder that Open started")
	}
	want := map[bool]string{true: "embedded", false: "rootless"}[os.Geteuid() == 0]
	if b.Address != want {
		t.Errorf("Address = %q, want %q", b.Address, want)
	}
	if own := platforms.DefaultSpec(); len(b.Platforms) == 0 || !platforms.Only(own).Match(b.Platforms[0]) {
		t.Errorf("Platforms = %v, want %s first", b.Platforms, platforms.Format(own))
	}
	// The state of a rootless daemon is hard to remove because it has files of other users.
	files, err := run(t.Context(), b, "echo hello > /greeting; mkdir /theirs; echo x > /theirs/file; chown -R 7:7 /theirs")
	if err != nil {
		t.Fatalf("solve: %v\n%s", err, b.Log())
	}
	if got := files["greeting"]; got != "hello\n" {
		t.Errorf("the built file contains %q", got)
	}
	if !strings.Contains(b.Log(), "running server") {
		t.Errorf("the log lacks the daemon's start: %q", b.Log())
	}
	closeTimely(t, b)
	nothingLeft(t, dir)
	if err := b.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if b.Log() == "" {
		t.Error("the log is gone after Close")
	}
}

// TestSharesLoopback: a daemon fetches a file that this process serves on loopback.
func TestSharesLoopback(t *testing.T) {
	t.Parallel()
	var asked atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(true)
		fmt.Fprint(w, "here")
	}))
	defer server.Close()
	b := open(t, in(tempDir(t), builder.Options{Address: embedded}))
	definition, err := llb.HTTP(server.URL + "/file").Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Client.Solve(t.Context(), definition, client.SolveOpt{}, nil); err != nil || !asked.Load() {
		t.Errorf("solve: %v; asked: %v", err, asked.Load())
	}
	closeTimely(t, b)
}

func TestCloseWhileAStepRuns(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	b := open(t, in(dir, builder.Options{Address: embedded}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const mark = "86399.25" // the duration identifies the process
	done := make(chan error, 1)
	go func() {
		_, err := run(ctx, b, "sleep "+mark)
		done <- err
	}()
	poll(t, "the step to start", func() bool { return len(processes(t, mark)) > 0 })
	cancel()
	closeTimely(t, b)
	if err := <-done; err == nil {
		t.Error("the cancelled solve succeeded")
	}
	nothingLeft(t, dir)
	if left := processes(t, mark); len(left) > 0 {
		t.Errorf("processes of the step remain after the daemon's end: %v", left)
	}
}

func TestRestartKeepsTheState(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	b := open(t, in(dir, builder.Options{Address: embedded}))
	const script = "head -c 16 /dev/urandom | od -An -tx1 > /once"
	first, err := run(t.Context(), b, script)
	if err != nil {
		t.Fatal(err)
	}
	signalDaemon(t, dir, syscall.SIGSTOP)
	if err := b.Restart(t.Context()); err != nil {
		t.Fatalf("restart a daemon that hangs: %v", err)
	}
	second, err := run(t.Context(), b, script)
	if err != nil {
		t.Fatalf("solve after the restart: %v\n%s", err, b.Log())
	}
	if first["once"] == "" || first["once"] != second["once"] {
		t.Errorf("the step ran again: %q, then %q", first["once"], second["once"])
	}
	closeTimely(t, b)
	nothingLeft(t, dir)
}

func TestCloseAfterTheDaemonDied(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	b := open(t, in(dir, builder.Options{Address: embedded}))
	signalDaemon(t, dir, syscall.SIGKILL)
	poll(t, "the daemon to be gone", func() bool { return len(processes(t, dir)) == 0 })
	if _, err := b.Client.ListWorkers(t.Context()); err == nil {
		t.Error("a dead daemon answered")
	}
	closeTimely(t, b)
	nothingLeft(t, dir)
}

// TestCloseWhileTheDaemonHangs: the daemon must be killed, and the step ends only when the builder
// ends it.
func TestCloseWhileTheDaemonHangs(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	b := open(t, in(dir, builder.Options{Address: embedded}))
	const mark = "86399.75"
	done := make(chan error, 1)
	go func() {
		_, err := run(t.Context(), b, "sleep "+mark)
		done <- err
	}()
	poll(t, "the step to start", func() bool { return len(processes(t, mark)) > 0 })
	signalDaemon(t, dir, syscall.SIGSTOP)
	closeTimely(t, b)
	if err := <-done; err == nil {
		t.Error("a solve succeeded without its daemon")
	}
	nothingLeft(t, dir)
	if left := processes(t, mark); len(left) > 0 {
		t.Errorf("processes of the step remain after the daemon's end: %v", left)
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, bin := tempDir(t), programs(t)
	const mark = "86398.5"
	replace(t, bin, "buildkitd", "exec sleep "+mark) // it never listens
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened := make(chan error, 1)
	go func() {
		_, err := builder.Open(ctx, in(dir, builder.Options{Address: embedded, Environ: environ(bin)}))
		opened <- err
	}()
	poll(t, "the daemon to start", func() bool { return len(processes(t, mark)) > 0 })
	cancel()
	if err := <-opened; !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v, want context.Canceled", err)
	}
	nothingLeft(t, dir)
	if left := processes(t, mark); len(left) > 0 {
		t.Errorf("processes of the daemon remain: %v", left)
	}

	if _, err := builder.Open(ctx, in(dir, builder.Options{Address: embedded, Environ: environ(bin)})); !errors.Is(err, context.Canceled) {
		t.Errorf("open with a context that has ended: %v, want context.Canceled", err)
	}
	nothingLeft(t, dir)
}

func TestStartHasADeadline(t *testing.T) {
	t.Parallel()
	dir, bin := tempDir(t), programs(t)
	replace(t, bin, "buildkitd", "echo still looking >&2; exec sleep 86397")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := builder.Open(ctx, in(dir, builder.Options{Address: embedded, Environ: environ(bin)}))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "still looking") {
		t.Errorf("open: %v, want a deadline and the daemon's output", err)
	}
	nothingLeft(t, dir)
}

// TestKilledOwner kills a process that has started a daemon, as the kernel does when memory runs
// out. The daemon dies with it, and the next start removes its directory.
func TestKilledOwner(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	owner := startOwner(t, dir)
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // "signal: killed"
	poll(t, "the daemon to die with its owner", func() bool { return len(processes(t, dir)) == 0 })
	stale := entries(t, dir)
	if len(stale) != 1 {
		t.Fatalf("want one stale directory, got %v", stale)
	}

	b := open(t, in(dir, builder.Options{Address: embedded}))
	if got := entries(t, dir); len(got) != 1 || got[0] == stale[0] {
		t.Errorf("after the next start the directories are %v, want only a new one", got)
	}
	// The start of a second builder must keep the directory of the first.
	other := open(t, in(dir, builder.Options{Address: embedded}))
	if got := entries(t, dir); len(got) != 2 {
		t.Errorf("two builders have %v", got)
	}
	closeTimely(t, other)
	if _, err := b.Client.ListWorkers(t.Context()); err != nil {
		t.Errorf("the second builder broke the first: %v", err)
	}
	closeTimely(t, b)
	nothingLeft(t, dir)
}

func TestSweepKeepsWhatIsNotStale(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	outside := filepath.Join(t.TempDir(), "precious")
	for _, path := range []string{filepath.Join(dir, "warmlayer-unlocked"), filepath.Join(dir, "other"), outside} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "warmlayer-link")); err != nil {
		t.Fatal(err)
	}
	closeTimely(t, open(t, in(dir, builder.Options{Address: embedded})))
	if got := strings.Join(entries(t, dir), " "); got != "other warmlayer-link warmlayer-unlocked" {
		t.Errorf("the sweep kept %s", got)
	}
	if _, err := os.Stat(filepath.Join(outside, "lock")); err != nil {
		t.Errorf("the sweep followed a link: %v", err)
	}
}

func TestDaemonInheritsNoSecret(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	env := append(environ(programs(t)),
		"INPUT_PASSWORD=canary-7f3a", "AWS_SECRET_ACCESS_KEY=canary-7f3b", "ACTIONS_RUNTIME_TOKEN=canary-7f3c",
		"no_proxy=registry.internal")
	b := open(t, in(dir, builder.Options{Address: embedded, Environ: env}))
	var seen bool
	for _, pid := range processes(t, dir) {
		text, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
		if err != nil {
			continue // only RootlessKit's child may read its own
		}
		seen = seen || strings.Contains(string(text), "no_proxy=registry.internal")
		if strings.Contains(string(text), "canary") {
			t.Errorf("process %s has a secret in its environment", pid)
		}
	}
	if !seen {
		t.Error("the daemon lacks the proxy settings")
	}
	closeTimely(t, b)
}
