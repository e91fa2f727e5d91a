package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	cacheimport "github.com/moby/buildkit/cache/remotecache/v1"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
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
// steps that one of the two held (moby/buildkit#6418). BuildKit's own code for caches
// does the merging: it makes one item of records with one digest and shared inputs.
//
// It returns the sources that are in the merged cache. One that cannot be understood
// fails alone, marked with the reason; so do the last ones, when all together are
// larger than what BuildKit imports.
func merge(ctx context.Context, sources []*backends.Source) (*source, []*backends.Source, error) {
	sources = slices.DeleteFunc(slices.Clone(sources), damaged)
	for {
		out, err := mergeAll(ctx, sources)
		if err != nil || len(out.config) <= backends.MaxConfig {
			return out, sources, err
		}
		last := len(sources) - 1
		sources[last].State = backends.Failed
		sources[last].Err = fmt.Errorf("merged with %d nearer caches it is larger than the %d bytes that BuildKit imports", last, backends.MaxConfig)
		sources = sources[:last]
	}
}

// damaged parses a source's config by itself, so that one does not spoil the merge.
func damaged(s *backends.Source) bool {
	err := cacheimport.Parse(s.Config, layersOf(s), cacheimport.NewCacheChains())
	if err != nil {
		s.State, s.Err = backends.Failed, fmt.Errorf("its cache config cannot be read: %w", err)
	}
	return err != nil
}

func layersOf(s *backends.Source) cacheimport.DescriptorProvider {
	layers := cacheimport.DescriptorProvider{}
	for _, l := range s.Manifest.Layers {
		layers[l.Digest] = cacheimport.DescriptorProviderPair{Descriptor: l}
	}
	return layers
}

func mergeAll(ctx context.Context, sources []*backends.Source) (*source, error) {
	out := &source{blobs: map[digest.Digest]blob{}}
	chains := cacheimport.NewCacheChains()
	for _, s := range sources {
		if err := cacheimport.Parse(s.Config, layersOf(s), chains); err != nil {
			return nil, fmt.Errorf("merge %s of %s: %w", s.Name, s, err)
		}
		for _, l := range s.Manifest.Layers {
			if _, ok := out.blobs[l.Digest]; !ok {
				out.blobs[l.Digest] = blob{s.From.Scopes(), l.Size}
			}
		}
	}
	config, layers, err := chains.Marshal(ctx)
	if err != nil {
		return nil, fmt.Errorf("merge caches: %w", err)
	}
	return out, out.assemble(config, layers)
}

// assemble writes the merged cache down as BuildKit's registry exporter would
// (v0.33.1, cache/remotecache/export.go, Finalize).
func (s *source) assemble(config *cacheconfig.CacheConfig, layers cacheimport.DescriptorProvider) error {
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
			manifest.Layers = append(manifest.Layers, layers[l.Blob].Descriptor)
		}
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		return fmt.Errorf("merge caches: %w", err)
	}
	s.manifest, err = backends.ParseManifest(raw, manifest.MediaType)
	return err
}
