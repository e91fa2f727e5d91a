package gateway

import (
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

// merge makes one cache of those of several scopes and stores. BuildKit must not
// import them side by side: it tells the records of two caches apart by IDs that it
// computes in the order of a Go map (v0.33.1, cache/remotecache/v1/chains.go,
// computeID), so that the records of a step with two ways of matching are found to
// be the same, or not, by chance; and what is held to differ does not match across
// caches. With own and default branch both imported, up to every second build missed
// steps that one of the two held (moby/buildkit#6418).
//
// It returns the sources that are in the merged cache. One that cannot be understood
// fails alone, marked with the reason; so do the last ones, when all together are
// larger than what BuildKit imports.
func merge(ctx context.Context, sources []*backends.Source) (*source, []*backends.Source, error) {
	var caches []cache
	for _, s := range sources {
		c, err := parse(s)
		if err != nil {
			s.State, s.Err = backends.Failed, fmt.Errorf("its cache config cannot be read: %w", err)
			continue
		}
		caches = append(caches, c)
	}
	for {
		out, err := mergeAll(ctx, caches)
		if err != nil || len(out.config) <= backends.MaxConfig {
			return out, sourcesOf(caches), err
		}
		last := len(caches) - 1
		s := caches[last].Source
		s.State = backends.Failed
		s.Err = fmt.Errorf("merged with %d nearer caches it is larger than the %d bytes that BuildKit imports", last, backends.MaxConfig)
		caches = caches[:last]
	}
}

// cache is a source whose config BuildKit understands.
type cache struct {
	*backends.Source
	config cacheconfig.CacheConfig
}

func parse(s *backends.Source) (cache, error) {
	c := cache{Source: s}
	if err := json.Unmarshal(s.Config, &c.config); err != nil {
		return c, err
	}
	layers := cacheimport.DescriptorProvider{}
	for _, l := range s.Manifest.Layers {
		layers[l.Digest] = cacheimport.DescriptorProviderPair{Descriptor: l}
	}
	return c, cacheimport.ParseConfig(c.config, layers, cacheimport.NewCacheChains())
}

func sourcesOf(caches []cache) []*backends.Source {
	var all []*backends.Source
	for _, c := range caches {
		all = append(all, c.Source)
	}
	return all
}

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
