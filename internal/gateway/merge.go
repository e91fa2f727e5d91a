package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	cacheimport "github.com/moby/buildkit/cache/remotecache/v1"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/util/compression"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
)

// source is the caches of all scopes as one, open for reading: its manifest and
// config lie in memory, its layers in their stores.
type source struct {
	manifest backends.Manifest
	config   []byte
	blobs    map[digest.Digest]blob
}

type blob struct {
	store backends.Scopes
	size  int64
}

// merged is what several sources become once they are settled.
type merged struct {
	sources []*backends.Source
	done    chan struct{} // closed when the rest is there
	out     *source
	in      []cache                    // what it was made of
	failed  map[*backends.Source]error // why others are not in it
	err     error
}

// merge makes one cache of those of several scopes and stores. BuildKit must not
// import them side by side: it tells the records of two caches apart by IDs that it
// computes in the order of a Go map (v0.33.1, cache/remotecache/v1/chains.go,
// computeID), so that the records of a step with two ways of matching are found to
// be the same, or not, by chance; and what is held to differ does not match across
// caches. With own and default branch both imported, up to every second build missed
// steps that one of the two held (moby/buildkit#6418).
//
// One that cannot be understood fails alone; so do the last ones, when all together are
// larger than what BuildKit imports.
func merge(ctx context.Context, sources []*backends.Source) *merged {
	m := &merged{sources: sources, done: make(chan struct{}), failed: map[*backends.Source]error{}}
	go func() {
		defer close(m.done)
		m.merge(ctx)
	}()
	return m
}

func (m *merged) merge(ctx context.Context) {
	for _, s := range m.sources {
		c, err := parse(s)
		if err != nil {
			m.failed[s] = err
			continue
		}
		m.in = append(m.in, c)
	}
	for {
		m.out, m.err = mergeAll(ctx, m.in)
		if m.err != nil || len(m.out.config) <= backends.MaxConfig {
			return
		}
		last := len(m.in) - 1
		m.failed[m.in[last].Source] = fmt.Errorf("merged with %d nearer caches it is larger than the %d bytes that BuildKit imports", last, backends.MaxConfig)
		m.in = m.in[:last]
	}
}

// wait is the merged cache, an empty one where no source is in it.
func (m *merged) wait(ctx context.Context) (*source, error) {
	select {
	case <-m.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return m.out, m.err
}

// settle waits, marks the sources that are not in it, and returns those that are.
func (m *merged) settle() []*backends.Source {
	<-m.done
	var in []*backends.Source
	for _, s := range m.sources {
		s.Settle()
		if err := cmp.Or(m.failed[s], m.err); err != nil && s.State == backends.Loaded {
			s.State, s.Err = backends.Failed, err
		}
		if s.State == backends.Loaded {
			in = append(in, s)
		}
	}
	return in
}

// cache is a source whose config BuildKit understands.
type cache struct {
	*backends.Source
	config cacheconfig.CacheConfig
}

// parse waits until the source is settled. It leaves the source as it is.
func parse(s *backends.Source) (cache, error) {
	settled := *s
	if settled.Settle(); settled.State != backends.Loaded {
		return cache{}, settled.Err
	}
	c := cache{Source: s}
	if err := json.Unmarshal(s.Config, &c.config); err != nil {
		return c, unreadable(err)
	}
	layers := cacheimport.DescriptorProvider{}
	for _, l := range s.Manifest.Layers {
		layers[l.Digest] = cacheimport.DescriptorProviderPair{Descriptor: l}
	}
	if err := cacheimport.ParseConfig(c.config, layers, cacheimport.NewCacheChains()); err != nil {
		return c, unreadable(err)
	}
	return c, nil
}

func unreadable(err error) error { return fmt.Errorf("its cache config cannot be read: %w", err) }

func mergeAll(ctx context.Context, caches []cache) (*source, error) {
	out := &source{blobs: map[digest.Digest]blob{}}
	var all []*record
	layers := map[digest.Digest]ocispecs.Descriptor{}
	for _, c := range caches {
		all = append(all, c.records()...)
		for _, l := range c.Manifest.Layers {
			if _, ok := out.blobs[l.Digest]; !ok {
				out.blobs[l.Digest], layers[l.Digest] = blob{c.From.Scopes(), l.Size}, l
			}
		}
	}
	return out, out.assemble(ctx, write(order(unite(all))), layers)
}

// assemble writes the merged cache down as BuildKit's registry exporter would
// (v0.33.1, cache/remotecache/export.go, Finalize).
func (s *source) assemble(ctx context.Context, config cacheconfig.CacheConfig, layers map[digest.Digest]ocispecs.Descriptor) error {
	var err error
	if s.config, err = json.Marshal(config); err != nil {
		return fmt.Errorf("merge caches: %w", err)
	}
	manifest := ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispecs.MediaTypeImageManifest,
		Config: ocispecs.Descriptor{
			MediaType: cacheconfig.CacheConfigMediaTypeV0,
			Digest:    digest.FromBytes(s.config),
			Size:      int64(len(s.config)),
		},
	}
	named := map[digest.Digest]bool{}
	for _, l := range config.Layers {
		if !named[l.Blob] {
			named[l.Blob] = true
			manifest.Layers = append(manifest.Layers, layers[l.Blob])
		}
	}
	manifest.Layers = compression.ConvertAllLayerMediaTypes(ctx, true, manifest.Layers...)
	raw, err := json.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("merge caches: %w", err)
	}
	s.manifest, err = backends.ParseManifest(raw, manifest.MediaType)
	return err
}
