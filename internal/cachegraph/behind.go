package cachegraph

import (
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Behind is the part of a cache by which a build finds results: the records with these results, and
// all records that lead to them, which is what BuildKit exports for a build with mode=max (v0.34.2,
// solver/exporter.go, ExportTo). Each result is the digests of its layers, the base's first. JSON is the
// config. It reports false where the cache, which comes from [Parse], does not have all of the results.
func (c Cache) Behind(results [][]digest.Digest) (part Merged, ok bool) {
	shared := chains{}
	all, _, err := c.records(shared)
	if err != nil || len(results) == 0 {
		return Merged{}, false
	}
	found := map[*chain]bool{}
	for _, layers := range results {
		var last *chain
		for _, blob := range layers {
			last = shared.on(last, blob)
		}
		if last == nil {
			return Merged{}, false
		}
		found[last] = false
	}
	needed := map[*record]bool{}
	for _, r := range slices.Backward(all) {
		if _, wanted := found[r.result.layers]; wanted {
			found[r.result.layers], needed[r] = true, true
		}
		for _, input := range r.inputs {
			for _, l := range input {
				needed[l.from] = needed[l.from] || needed[r]
			}
		}
	}
	for _, there := range found {
		if !there {
			return Merged{}, false
		}
	}
	kept := slices.DeleteFunc(slices.Clone(all), func(r *record) bool { return !needed[r] })
	part = Merged{Cache: newCache(kept, descriptorsOf(c.Layers)), Caches: 1}
	part.JSON, err = marshal(part.Config)
	return part, err == nil
}

// Used is when each layer of a cache was last exported: the time of the newest of the builds that used
// a result which needs the layer. A cache without builds is that of one build, as [Cache.Foreign] has it.
// The cache comes from [Parse].
func (c Cache) Used() map[digest.Digest]time.Time {
	reader, err := c.read(chains{})
	if err != nil {
		return nil
	}
	used := map[digest.Digest]time.Time{}
	for _, b := range c.Builds {
		seen := map[*chain]bool{}
		for i, r := range reader.known {
			if !b.uses(i) {
				continue
			}
			for l := r.result.layers; l != nil && !seen[l]; l = l.parent {
				seen[l], used[l.blob] = true, later(used[l.blob], b.Time)
			}
		}
	}
	return used
}
