package builder_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// fresh is a step whose result shows whether it ran again.
const fresh = "head -c 16 /dev/urandom | od -An -tx1 > /once"

// keeping opens an embedded builder with a kept state.
func keeping(t *testing.T, dir string, s builderspec.State) *builder.Builder {
	t.Helper()
	return open(t, in(dir, builder.Options{Address: embedded, Managed: builderspec.Managed{State: s}}))
}

// ran runs the step and returns its result.
func ran(t *testing.T, b *builder.Builder) string {
	t.Helper()
	files, err := run(t.Context(), b, fresh)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.Log())
	}
	return files["once"]
}

// shut closes a builder that keeps its state, which takes longer than ending another one.
func shut(t *testing.T, b *builder.Builder) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestKeptState: the next builder has what the one before it has built, and nothing else is left.
func TestKeptState(t *testing.T) {
	t.Parallel()
	dir, state := tempDir(t), builderspec.State{Dir: filepath.Join(tempDir(t), "state")}
	b := keeping(t, dir, state)
	if b.State != "kept in "+state.Dir {
		t.Errorf("at first: %s", b.State)
	}
	first := ran(t, b)
	shut(t, b)
	nothingLeft(t, dir)
	b = keeping(t, dir, state)
	if second := ran(t, b); second != first || first == "" {
		t.Errorf("the step ran again: %q, then %q", first, second)
	}
	shut(t, b)
	nothingLeft(t, dir)
}

// TestKeptStateInUse: a second builder at the same time starts empty, or waits where it is told to.
func TestKeptStateInUse(t *testing.T) {
	t.Parallel()
	dir, state := tempDir(t), builderspec.State{Dir: tempDir(t)}
	b := keeping(t, dir, state)
	first := ran(t, b)
	other := keeping(t, dir, state)
	if want := "empty, and nothing is kept: another run uses " + state.Dir; other.State != want {
		t.Errorf("state %q, want %q", other.State, want)
	}
	if second := ran(t, other); second == first {
		t.Error("the second builder has what the first has built")
	}
	shut(t, other)
	waiting := state
	waiting.Wait = 20 * time.Second
	opened := make(chan *builder.Builder)
	go func() {
		third, err := builder.Open(t.Context(), in(dir, builder.Options{Address: embedded, Managed: builderspec.Managed{State: waiting}}))
		if err != nil {
			t.Error(err)
		}
		opened <- third
	}()
	select {
	case <-opened:
		t.Error("a builder did not wait")
	default:
	}
	shut(t, b)
	third := <-opened
	if third == nil {
		t.Fatal("no third builder")
	}
	if again := ran(t, third); again != first {
		t.Errorf("after the wait %q, want %q", again, first)
	}
	shut(t, third)
}

// TestKeptStateAfterAKill: a builder whose process was killed in the middle of a build leaves a state that the next one uses.
func TestKeptStateAfterAKill(t *testing.T) {
	t.Parallel()
	dir, state := tempDir(t), builderspec.State{Dir: tempDir(t)}
	b := keeping(t, dir, state)
	first := ran(t, b)
	const mark = "86396.25"
	done := make(chan error, 1)
	go func() {
		_, err := run(t.Context(), b, "sleep "+mark)
		done <- err
	}()
	poll(t, "the step to start", func() bool { return len(processes(t, mark)) > 0 })
	signalDaemon(t, dir, syscall.SIGKILL)
	if err := <-done; err == nil {
		t.Error("a solve succeeded without its daemon")
	}
	shut(t, b)
	b = keeping(t, dir, state)
	if second := ran(t, b); second != first {
		t.Errorf("what was built before the kill is gone: %q, then %q (%s)", first, second, b.State)
	}
	shut(t, b)
}

// TestKeptStateUnfit: a state that another BuildKit has made, one that is damaged and one that cannot be locked never fail a
// build: the builder starts empty.
func TestKeptStateUnfit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"another BuildKit": {func(t *testing.T, dir string) {
			testkit.Write(t, filepath.Join(dir, "warmlayer-state"), "1 of another version\n")
		}, "empty: another buildkitd program or another user made it"},
		"damaged": {func(t *testing.T, dir string) {
			for _, db := range []string{"metadata_v2.db", "cache.db", "history.db", "containerdmeta.db"} {
				found, err := filepath.Glob(filepath.Join(dir, "buildkit", "*", db))
				outer, _ := filepath.Glob(filepath.Join(dir, "buildkit", db))
				if err != nil {
					t.Fatal(err)
				}
				for _, file := range append(found, outer...) {
					testkit.Write(t, file, strings.Repeat("damaged", 4<<10))
				}
			}
		}, "empty, and nothing is kept: BuildKit did not start with what was kept"},
		"a file in place of the root": {func(t *testing.T, dir string) {
			if err := errors.Join(os.RemoveAll(filepath.Join(dir, "buildkit")), os.WriteFile(filepath.Join(dir, "buildkit"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "empty, and nothing is kept: BuildKit did not start with what was kept"},
		"a directory of something else": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "warmlayer-state")); err != nil {
				t.Fatal(err)
			}
		}, "empty, and nothing is kept: "},
		"a lock that is a directory": {func(t *testing.T, dir string) {
			if err := errors.Join(os.Remove(filepath.Join(dir, "warmlayer.lock")), os.Mkdir(filepath.Join(dir, "warmlayer.lock"), 0o700)); err != nil {
				t.Fatal(err)
			}
		}, "empty, and nothing is kept: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, state := tempDir(t), builderspec.State{Dir: tempDir(t)}
			b := keeping(t, dir, state)
			first := ran(t, b)
			shut(t, b)
			c.spoil(t, state.Dir)
			b = keeping(t, dir, state)
			if !strings.HasPrefix(b.State, c.want) {
				t.Errorf("state %q, want %q", b.State, c.want)
			}
			if b.Network.Steps != builder.NetworkOwn {
				t.Errorf("the steps are on the network %+v", b.Network)
			}
			if second := ran(t, b); second == first {
				t.Error("the builder was not empty")
			}
			shut(t, b)
			nothingLeft(t, dir)
			if _, err := os.Stat(filepath.Join(state.Dir, "buildkit")); name == "a directory of something else" && err != nil {
				t.Errorf("what is not a builder's was removed: %v", err)
			}
		})
	}
}

// TestKeptStateSize: what was used the longest ago goes where the state is larger than it may be.
func TestKeptStateSize(t *testing.T) {
	t.Parallel()
	dir, state := tempDir(t), builderspec.State{Dir: tempDir(t), Size: 8 << 20}
	b := keeping(t, dir, state)
	first := ran(t, b)
	if _, err := run(t.Context(), b, "dd if=/dev/zero of=/large bs=1M count=32"); err != nil {
		t.Fatal(err)
	}
	shut(t, b)
	var bytes int64
	err := filepath.Walk(state.Dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return err
	})
	if err != nil || bytes > 24<<20 {
		t.Errorf("%d bytes are kept, %v", bytes, err)
	}
	b = keeping(t, dir, state)
	if ran(t, b) == first {
		t.Log("the small step is still there")
	}
	b.Forget()
	shut(t, b)
	if _, err := os.Stat(filepath.Join(state.Dir, "buildkit")); !os.IsNotExist(err) {
		t.Errorf("what is to be forgotten is there: %v", err)
	}
}
