package cacheplan

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/moby/buildkit/util/compression"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// merged is one cache made of several parts, as soon as their blobs are verified. A result that
// needs a lost blob is left out; so are a part whose config BuildKit would not import, and the
// farthest ones when all together are larger than what BuildKit imports.
type merged struct {
	done  chan struct{} // closed when the fields below are set
	cache gateway.Cache
	parts []part
	left  int   // parts that are left out because all together would be too large
	err   error // why there is no cache
}

// part is the cache of one source.
type part struct {
	source  *source
	reading backends.Reading
	lost    map[digest.Digest]bool // its blobs that are known to be lost
	why     error                  // why they are; nil where none is

	// The outcome.
	err     error // why it was left out; nil when it was not
	reduced error // why results of it were left out; nil when none was
}

// mergeParts begins a merge, and waits for the parts meanwhile. The context ends with the run; it carries
// the log only.
func mergeParts(ctx context.Context, parts func() []part) *merged {
	m := &merged{done: make(chan struct{})}
	go func() {
		defer crash.Catch()
		defer close(m.done)
		m.parts = parts()
		m.merge(ctx)
	}()
	return m
}

func (m *merged) merge(ctx context.Context) {
	m.cache.Blobs = map[digest.Digest]gateway.Blob{}
	var caches []cachegraph.Cache
	var numbers []int // of their parts
	for i := range m.parts {
		if c, ok := m.parts[i].read(); ok {
			caches, numbers = append(caches, c), append(numbers, i)
		}
	}
	out, err := cachegraph.MergeWithin(caches, backends.MaxConfig)
	if err != nil {
		m.err = err
		return
	}
	m.left = len(out.Refused)
	for n, i := range numbers[out.Caches:] {
		m.parts[i].err = out.Refused[n]
	}
	for n, i := range numbers[:out.Caches] {
		store := m.parts[i].reading.From.Scopes()
		for _, l := range caches[n].Layers {
			if _, known := m.cache.Blobs[l.Digest]; !known {
				m.cache.Blobs[l.Digest] = gateway.Blob{Store: store, Size: l.Size}
			}
		}
	}
	if out.Dropped > 0 {
		m.parts[numbers[0]].reduced = fmt.Errorf("it is larger than what BuildKit imports: %d of %d results are not used", out.Dropped, caches[0].Results())
	}
	m.cache.Config = out.JSON
	m.cache.Manifest, m.err = backends.NewManifest(out.JSON, compression.ConvertAllLayerMediaTypes(ctx, true, out.Layers...), backends.Record{})
}

// read is the part's cache without the results that need lost blobs. It reports false, and sets
// err, where nothing remains.
func (p *part) read() (cachegraph.Cache, bool) {
	lost, why := maps.Clone(p.lost), p.why
	if err := p.reading.Verify(); err != nil {
		var gone *backends.Gone
		if !errors.As(err, &gone) {
			p.err = err
			return cachegraph.Cache{}, false
		}
		why = err
		if lost == nil {
			lost = map[digest.Digest]bool{}
		}
		for _, d := range gone.Missing {
			lost[d] = true
		}
	}
	p.lost = lost
	whole, err := cachegraph.Parse(p.reading.Config, p.reading.Manifest.Layers)
	if err != nil {
		p.err = unreadable(err)
		return cachegraph.Cache{}, false
	}
	if len(lost) == 0 {
		return whole, true
	}
	c := whole.Without(lost)
	all, kept := whole.Results(), c.Results()
	if kept == 0 {
		p.err = why
		return cachegraph.Cache{}, false
	}
	p.reduced = fmt.Errorf("%d of %d results are not used: %w", all-kept, all, why)
	return c, true
}

// wait returns the cache when it is complete, an empty one where there is no part or every part was left out.
func (m *merged) wait(ctx context.Context) (gateway.Cache, error) {
	select {
	case <-m.done:
	case <-ctx.Done():
		return gateway.Cache{}, context.Cause(ctx)
	}
	return m.cache, m.err
}
