package cachegraph

import (
	"slices"
	"sort"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Fit is the part of a cache that needs no lost layer, makes a config of at most limit bytes
// of JSON, and that BuildKit imports in good time. Where records have to be left out, Fit
// keeps those in use last: a record is in use when its own result is made, and when that of a
// step is made which needs it. Of records that were in use at one time it keeps the first
// steps. The outcome depends on the arguments alone. Dropped counts the results that are left
// out, for either reason.
//
// The error says that the config cannot be read.
func Fit(config []byte, layers []ocispecs.Descriptor, lost map[digest.Digest]bool, limit int) (Merged, error) {
	c, err := decode(config, layers)
	if err != nil {
		return Merged{}, err
	}
	before, _, err := c.records(chains{})
	if err != nil {
		return Merged{}, err
	}
	all, _, err := c.Without(lost).records(chains{})
	if err != nil {
		return Merged{}, err
	}
	out, err := fit(all, descriptorsOf(layers), limit)
	out.Dropped += results(before) - results(all)
	return out, err
}

func descriptorsOf(layers []ocispecs.Descriptor) map[digest.Digest]ocispecs.Descriptor {
	all := make(map[digest.Digest]ocispecs.Descriptor, len(layers))
	for _, l := range layers {
		all[l.Digest] = l
	}
	return all
}

// fit is the part of records that are in order.
func fit(all []*record, descriptors map[digest.Digest]ocispecs.Descriptor, limit int) (Merged, error) {
	var failed error
	text := func(records []*record) []byte {
		raw, err := marshal(encode(records))
		if err != nil {
			failed = err
		}
		return raw
	}
	fits := func(records []*record) bool {
		return expanded(records) <= MaxExpanded && len(text(records)) <= limit
	}
	kept := all
	if !fits(all) {
		// The first n records include the inputs of each, and fewer records take less space.
		ranked := rank(all)
		kept = ranked[:sort.Search(len(ranked), func(n int) bool { return !fits(ranked[:n+1]) })]
	}
	return Merged{
		Cache: newCache(kept, descriptors), JSON: text(kept), Caches: 1, Dropped: results(all) - results(kept),
	}, failed
}

// rank sorts records by the time of their last use, the latest first, and leaves out those of
// no use. A record comes after its inputs: these are in use whenever it is.
func rank(all []*record) []*record {
	used := map[*record]time.Time{}
	useful := map[*record]bool{}
	for _, r := range slices.Backward(all) {
		if r.result.layers != nil {
			useful[r] = true
			used[r] = later(used[r], r.result.created)
		}
		if !useful[r] {
			continue
		}
		for _, input := range r.inputs {
			for _, l := range input {
				useful[l.from] = true
				used[l.from] = later(used[l.from], used[r])
			}
		}
	}
	ranked := slices.DeleteFunc(slices.Clone(all), func(r *record) bool { return !useful[r] })
	slices.SortStableFunc(ranked, func(a, b *record) int { return used[b].Compare(used[a]) })
	return ranked
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
