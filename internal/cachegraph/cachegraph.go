// Package cachegraph merges cache configs: the graphs of steps, keys and layers in which
// BuildKit describes a cache (cache/remotecache/v1/types). It computes, and does no I/O.
//
// The caches of the scopes b-feature and b-main, as two manifests and their configs:
//
//	own, err := cachegraph.Parse(ownConfig, ownManifest.Layers)
//	main, err := cachegraph.Parse(mainConfig, mainManifest.Layers)
//	both, err := cachegraph.MergeWithin([]cachegraph.Cache{own, main}, 1<<20) // one config, and the layers that it names
//
// BuildKit must not import the two side by side: it tells the records of two caches apart
// by IDs that it computes in the order of a Go map (v0.34.2, cache/remotecache/v1/chains.go,
// computeID), so that it finds the records of a step with two ways of matching to be the same,
// or not, by chance; and records that it holds to be different match nothing in the other cache.
// With own and default branch both imported, up to every second build missed steps that one of
// the two held (moby/buildkit#6418).
package cachegraph

import (
	"encoding/json"
	"fmt"
	"slices"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Cache is one cache: its config, and the descriptors of its layers, each once. A result
// of the config counts only when all of its layers have a descriptor.
type Cache struct {
	Config cacheconfig.CacheConfig
	Layers []ocispecs.Descriptor
	Builds []Build // whose results it holds, as [Accumulate] wrote them; nil for a cache of another program
}

// Parse reads a config that is JSON. The error is [Harmful] when BuildKit would import the config;
// every other error says why it would not.
func Parse(config []byte, layers []ocispecs.Descriptor) (Cache, error) {
	c, err := decode(config, layers)
	if err != nil {
		return Cache{}, err
	}
	all, expanded, err := c.records(chains{})
	if err == nil && expanded > MaxExpanded {
		err = tooMany(expanded, "layers in its results", MaxExpanded)
	}
	if err == nil {
		err = consistent(all)
	}
	if err != nil {
		return Cache{}, err
	}
	return c, nil
}

func decode(config []byte, layers []ocispecs.Descriptor) (Cache, error) {
	if err := CheckText(config); err != nil {
		return Cache{}, err
	}
	var doc Document
	if err := json.Unmarshal(config, &doc); err != nil {
		return Cache{}, err
	}
	return Cache{Config: doc.CacheConfig, Layers: layers, Builds: doc.builds()}, nil
}

// Without is the cache without the lost layers, and thus without the results that need them.
func (c Cache) Without(lost map[digest.Digest]bool) Cache {
	out := Cache{Config: c.Config, Builds: c.Builds}
	for _, l := range c.Layers {
		if !lost[l.Digest] {
			out.Layers = append(out.Layers, l)
		}
	}
	return out
}

// Results is the number of records with a result, of a cache that comes from [Parse].
func (c Cache) Results() int {
	all, _, err := c.records(chains{})
	if err != nil {
		return 0
	}
	return results(all)
}

func results(all []*record) int {
	n := 0
	for _, r := range all {
		if r.result.layers != nil {
			n++
		}
	}
	return n
}

// mergeRecords are the records of all caches, in order, and the descriptors of their layers.
func mergeRecords(caches []Cache) ([]*record, map[digest.Digest]ocispecs.Descriptor, error) {
	var all []*record
	descriptors, shared := map[digest.Digest]ocispecs.Descriptor{}, chains{}
	for _, c := range caches {
		records, _, err := c.records(shared)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, records...)
		for _, l := range c.Layers {
			if _, known := descriptors[l.Digest]; !known {
				descriptors[l.Digest] = l
			}
		}
	}
	b := newBudget()
	all, err := unite(all, b)
	if err == nil {
		all, err = order(all, b)
	}
	return all, descriptors, err
}

// newCache is the cache of records that are in order.
func newCache(all []*record, descriptors map[digest.Digest]ocispecs.Descriptor) Cache {
	out := Cache{Config: encode(all)}
	named := map[digest.Digest]bool{}
	for _, l := range out.Config.Layers {
		if !named[l.Blob] {
			named[l.Blob] = true
			out.Layers = append(out.Layers, descriptors[l.Blob])
		}
	}
	return out
}

// Merged is a merge of caches within a size.
type Merged struct {
	Cache
	JSON    []byte  // the config
	Caches  int     // how many of the caches are in it, from the first one on
	Refused []error // of each of the other caches, why it is left out
	Dropped int     // results of the first cache that are left out, because it alone is too large
}

// MergeWithin makes one cache of as many of the caches, which come from [Parse], from the first one
// on, as make a config of at most limit bytes of JSON that BuildKit imports in good time. When the
// first one alone is too large, it keeps the results that [Fit] keeps. A build finds in the merge
// whatever it finds in any of its caches, and the newest result of each step. Of a layer that several
// have, the descriptor is the first one's. The merge of no caches is an empty cache.
func MergeWithin(caches []Cache, limit int) (Merged, error) {
	var refused []error
	for n := len(caches); n > 0; n-- {
		all, descriptors, err := mergeRecords(caches[:n])
		var out Merged
		if err == nil && n == 1 {
			out, err = fit(all, descriptors, limit)
		} else if err == nil {
			out, err = whole(all, descriptors, limit)
		}
		if err == nil {
			out.Caches, out.Refused = n, refused
			return out, nil
		}
		if n > 1 {
			err = fmt.Errorf("it cannot be merged with %d nearer caches: %w", n-1, err)
		}
		refused = slices.Insert(refused, 0, err)
	}
	raw, err := marshal(cacheconfig.CacheConfig{})
	return Merged{JSON: raw, Refused: refused}, err
}

// whole is the cache of all the records, if it is not too large.
func whole(all []*record, descriptors map[digest.Digest]ocispecs.Descriptor, limit int) (Merged, error) {
	if n := expanded(all); n > MaxExpanded {
		return Merged{}, tooMany(n, "layers in its results", MaxExpanded)
	}
	out := Merged{Cache: newCache(all, descriptors)}
	var err error
	if out.JSON, err = marshal(out.Config); err == nil && len(out.JSON) > limit {
		err = fmt.Errorf("%d bytes, and BuildKit imports at most %d", len(out.JSON), limit)
	}
	return out, err
}

func marshal(config any) ([]byte, error) {
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("write cache config: %w", err)
	}
	return raw, nil
}
