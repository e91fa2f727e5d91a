package cacheplan

import (
	"context"

	"github.com/moby/buildkit/util/compression"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// merged is one cache made of several readings, as soon as these are verified. A reading
// whose config BuildKit would not import is left out, and so are the farthest ones when all
// together are larger than what BuildKit imports.
type merged struct {
	done  chan struct{} // closed when the fields below are set
	cache gateway.Cache
	errs  []error // for each reading, why it was left out
	err   error   // why there is no cache
}

// mergeReadings begins a merge. The context ends with the run; it carries the log only.
func mergeReadings(ctx context.Context, readings []backends.Reading) *merged {
	m := &merged{done: make(chan struct{}), errs: make([]error, len(readings))}
	go func() {
		defer close(m.done)
		m.merge(ctx, readings)
	}()
	return m
}

func (m *merged) merge(ctx context.Context, readings []backends.Reading) {
	m.cache.Blobs = map[digest.Digest]gateway.Blob{}
	var caches []cachegraph.Cache
	var numbers []int // of their readings
	for i, r := range readings {
		if m.errs[i] = r.Verify(); m.errs[i] != nil {
			continue
		}
		c, err := cachegraph.Parse(r.Config, r.Manifest.Layers)
		if err != nil {
			m.errs[i] = unreadable(err)
			continue
		}
		caches, numbers = append(caches, c), append(numbers, i)
	}
	out, err := cachegraph.MergeWithin(caches, backends.MaxConfig)
	if err != nil {
		m.err = err
		return
	}
	for n, i := range numbers[out.Caches:] {
		m.errs[i] = out.Refused[n]
	}
	for _, i := range numbers[:out.Caches] {
		store := readings[i].From.Scopes()
		for _, l := range readings[i].Manifest.Layers {
			if _, known := m.cache.Blobs[l.Digest]; !known {
				m.cache.Blobs[l.Digest] = gateway.Blob{Store: store, Size: l.Size}
			}
		}
	}
	m.cache.Config = out.JSON
	m.cache.Manifest, m.err = backends.NewManifest(out.JSON, compression.ConvertAllLayerMediaTypes(ctx, true, out.Layers...), backends.Record{})
}

// wait returns the cache when it is complete, an empty one where every reading was left out.
func (m *merged) wait(ctx context.Context) (gateway.Cache, error) {
	select {
	case <-m.done:
	case <-ctx.Done():
		return gateway.Cache{}, context.Cause(ctx)
	}
	return m.cache, m.err
}
