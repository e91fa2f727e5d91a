package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// stalling is a store that does not answer. It ends with a request's context, or never.
type stalling struct {
	*testkit.Store
	stat, put, reads, deaf bool // what does not answer; a Put may read the body before; deaf: whatever the context does
}

func (s stalling) wait(ctx context.Context) error {
	if s.deaf {
		select {}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (s stalling) Stat(ctx context.Context, blobs []digest.Digest) (map[digest.Digest]int64, error) {
	if s.stat {
		return nil, s.wait(ctx)
	}
	return s.Store.Stat(ctx, blobs)
}

func (s stalling) Put(ctx context.Context, desc ocispecs.Descriptor, body io.Reader) error {
	if !s.put {
		return s.Store.Put(ctx, desc, body)
	}
	if s.reads {
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
	}
	return s.wait(ctx)
}

// export sends an export of many small blobs and a large one, and commits it.
func export(ctx context.Context, t *testing.T, g *gateway.Gateway, fanout *gateway.Fanout) []error {
	t.Helper()
	m, config, _ := app.Cache(t, "me")
	blobs := []string{"app by me", "base by me", string(config), strings.Repeat("large", 1<<20)}
	for i := range 40 {
		blobs = append(blobs, fmt.Sprint("blob ", i))
	}
	for _, blob := range blobs {
		if a := upload(t, g, "d0", digest.FromString(blob), strings.NewReader(blob)); a.status != http.StatusCreated {
			t.Errorf("%.20q: %+v", blob, a)
		}
	}
	if a := ask(t, g, "PUT", "/v2/d0/manifests/b-main", strings.NewReader(string(m.Raw)), "Content-Type: "+m.MediaType); a.status != http.StatusCreated {
		t.Errorf("manifest: %+v", a)
	}
	return fanout.Commit(ctx, asSent(backends.Record{}))
}

// TestPushStalls: a store that does not answer fails alone, whatever does not answer.
func TestPushStalls(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]stalling{
		"look-up":                          {stat: true},
		"upload":                           {put: true},
		"upload, after it":                 {put: true, reads: true},
		"upload, without an end":           {put: true, deaf: true},
		"upload, after it, without an end": {put: true, reads: true, deaf: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad.Store = testkit.NewStore()
			good, g := testkit.NewStore(), testkit.Gateway(t)
			fanout := g.Accept([]backends.Store{bad, good}, nil, 200*time.Millisecond)
			outcome := export(t.Context(), t, g, fanout)
			if outcome[0] == nil || !strings.Contains(outcome[0].Error(), "200ms") || outcome[1] != nil {
				t.Errorf("outcome %v", outcome)
			}
			if blobs, scopes := good.Len(); blobs != 44 || scopes != 1 {
				t.Errorf("the good store has %d blobs, %d scopes", blobs, scopes)
			}
			if _, scopes := bad.Len(); scopes != 0 {
				t.Errorf("the store that stalls has %d scopes", scopes)
			}
		})
	}
}

// TestCommitGivesUp: a commit ends with its context, although a small blob is on its way to a
// store that does not answer.
func TestCommitGivesUp(t *testing.T) {
	t.Parallel()
	for _, deaf := range []bool{false, true} {
		good, bad, g := testkit.NewStore(), stalling{Store: testkit.NewStore(), put: true, deaf: deaf}, testkit.Gateway(t)
		fanout := g.Accept([]backends.Store{bad, good}, nil, 0)
		if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != http.StatusCreated {
			t.Fatalf("%+v", a)
		}
		m, _, _ := app.Cache(t, "me")
		if a := ask(t, g, "PUT", "/v2/d0/manifests/b-main", strings.NewReader(string(m.Raw)), "Content-Type: "+m.MediaType); a.status != http.StatusCreated {
			t.Fatalf("%+v", a)
		}
		cancelled := errors.New("cancelled")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan []error)
		go func() { done <- fanout.Commit(ctx, asSent(backends.Record{})) }()
		testkit.Until(t, "the good store's commit", func() bool { _, scopes := good.Len(); return scopes == 1 })
		cancel(cancelled)
		if outcome := <-done; !errors.Is(outcome[0], cancelled) || outcome[1] != nil {
			t.Errorf("outcome %v", outcome)
		}
	}
}
