package layout_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/flock"
	"github.com/moby/buildkit/client/ociindex"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/layout"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestHeld: BuildKit's client gives up when another process holds the index's lock, in the words that
// Held knows. Unlocked waits for that process.
func TestHeld(t *testing.T) {
	t.Parallel()
	l := &layout.Layout{Dir: testkit.Temp(t)}
	path := filepath.Join(l.Dir, "index.json.lock")
	put := func() error { return ociindex.NewStoreIndex(l.Dir).Put(ocispecs.Descriptor{}, ociindex.Tag("b-main")) }
	lock := flock.New(path)
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := put(); !l.Held(err) {
		t.Errorf("the client's error is %v", err)
	}
	if elsewhere := (&layout.Layout{Dir: filepath.Join(l.Dir, "other")}); elsewhere.Held(put()) || l.Held(nil) {
		t.Error("an error about another directory, or none, counts as one about this lock")
	}
	opened := testkit.Opened(t, l.Dir, filepath.Base(path))
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Unlocked(ctx) }()
	<-opened
	ended := errors.New("the time is over")
	cancel(ended)
	if err := <-done; !errors.Is(err, ended) || !strings.Contains(err.Error(), "another process holds it") {
		t.Errorf("at the end of its context: %v", err)
	}
	go func() { done <- l.Unlocked(t.Context()) }()
	<-opened
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := errors.Join(put(), os.Mkdir(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := put(); err == nil || l.Held(err) {
		t.Errorf("a lock that cannot be opened counts as held: %v", err)
	}
}
