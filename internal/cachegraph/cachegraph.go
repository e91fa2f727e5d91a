// Package cachegraph merges cache configs: the graphs of steps, keys and layers in which
// BuildKit describes a cache (cache/remotecache/v1/types). It computes, and does no I/O.
//
// The caches of the scopes b-feature and b-main, as two manifests and their configs:
//
//	own, err := cachegraph.Parse(ownConfig, ownManifest.Layers)
//	main, err := cachegraph.Parse(mainConfig, mainManifest.Layers)
//	both := cachegraph.Merge([]cachegraph.Cache{own, main}) // one config, and the layers that it names
//
// BuildKit must not import the two side by side: it tells the records of two caches apart
// by IDs that it computes in the order of a Go map (v0.33.1, cache/remotecache/v1/chains.go,
// computeID), so that it finds the records of a step with two ways of matching to be the same,
// or not, by chance; and records that it holds to be different match nothing in the other cache.
// With own and default branch both imported, up to every second build missed steps that one of
// the two held (moby/buildkit#6418).
package cachegraph

import (
	"encoding/json"
	"fmt"

	cacheimport "github.com/moby/buildkit/cache/remotecache/v1"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Cache is one cache: its config, and the descriptors of its layers, each once. A result
// of the config counts only when all of its layers have a descriptor.
type Cache struct {
	Config cacheconfig.CacheConfig
	Layers []ocispecs.Descriptor
}

// Parse reads a config that is JSON. The error, in the words of the JSON or the BuildKit
// library, says why BuildKit would not import it.
func Parse(config []byte, layers []ocispecs.Descriptor) (Cache, error) {
	c := Cache{Layers: layers}
	if err := json.Unmarshal(config, &c.Config); err != nil {
		return Cache{}, err
	}
	provider := cacheimport.DescriptorProvider{}
	for _, l := range layers {
		provider[l.Digest] = cacheimport.DescriptorProviderPair{Descriptor: l}
	}
	if err := cacheimport.ParseConfig(c.Config, provider, cacheimport.NewCacheChains()); err != nil {
		return Cache{}, err
	}
	return c, nil
}

// Merge makes one cache of several that come from [Parse]. A build finds in it whatever it
// finds in any of them, and the newest result of each step. Of a layer that several have,
// the descriptor is the first one's. The merge of no caches is an empty cache.
func Merge(caches []Cache) Cache {
	var all []*record
	descriptors := map[digest.Digest]ocispecs.Descriptor{}
	for _, c := range caches {
		all = append(all, c.records()...)
		for _, l := range c.Layers {
			if _, known := descriptors[l.Digest]; !known {
				descriptors[l.Digest] = l
			}
		}
	}
	out := Cache{Config: encode(order(unite(all)))}
	named := map[digest.Digest]bool{}
	for _, l := range out.Config.Layers {
		if !named[l.Blob] {
			named[l.Blob] = true
			out.Layers = append(out.Layers, descriptors[l.Blob])
		}
	}
	return out
}

// MergeWithin merges as many of the caches, from the first one on, as make a config of
// at most limit bytes of JSON. It returns the merge, its config as JSON, and how many of
// the caches are in it.
func MergeWithin(caches []Cache, limit int) (merged Cache, config []byte, n int, err error) {
	for n = len(caches); ; n-- {
		merged = Merge(caches[:n])
		if config, err = json.Marshal(merged.Config); err != nil {
			return Cache{}, nil, 0, fmt.Errorf("write merged cache config: %w", err)
		}
		if n == 0 || len(config) <= limit {
			return merged, config, n, nil
		}
	}
}
