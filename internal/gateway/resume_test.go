package gateway_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// breaking is a store whose transfers break off after three bytes.
type breaking struct {
	*testkit.Store
	times  int // how many of them
	opened []int64
}

var errReset = errors.New("connection reset by peer")

func (b *breaking) Open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	b.opened = append(b.opened, offset)
	whole, err := b.Store.Open(ctx, d, offset)
	if err != nil || len(b.opened) > b.times {
		return whole, err
	}
	return io.NopCloser(io.MultiReader(io.LimitReader(whole, 3), readerFunc(func([]byte) (int, error) { return 0, errReset }))), nil
}

// A transfer is continued where its connection broke, but not without end: a blob that cannot be
// read is lost, with the store's answer as the reason.
func TestResumed(t *testing.T) {
	t.Parallel()
	const content = "app by b-main"
	for _, tt := range []struct{ breaks, opens int }{{0, 1}, {1, 2}, {3, 4}, {4, 4}, {100, 4}} {
		s := &breaking{Store: testkit.NewStore(), times: tt.breaks}
		g := testkit.Gateway(t)
		c := offered(t, s.Store)
		for d, b := range c.Blobs {
			b.Store = s
			c.Blobs[d] = b
		}
		g.Offer(complete(c))
		g.Accept([]backends.Store{s}, nil, time.Minute)
		a := ask(t, g, "GET", blobURL("s0", digest.FromString(content)), nil)
		if whole := a.err == nil && a.body == content; whole != (tt.breaks < 4) || len(s.opened) != tt.opens {
			t.Errorf("%d breaks: %q, %v, opened at %v", tt.breaks, a.body, a.err, s.opened)
		}
		why := g.Why(digest.FromString(content))
		if tt.breaks >= 4 && (len(g.Lost()) != 1 || why == nil || !strings.Contains(why.Error(), errReset.Error())) || tt.breaks < 4 && why != nil {
			t.Errorf("%d breaks: lost %v, %v", tt.breaks, g.Lost(), why)
		}
	}
}
