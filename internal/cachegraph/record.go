package cachegraph

import (
	"slices"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
)

// record is a record of a cache config: a key by which a build finds a step, and the step's
// result.
type record struct {
	digest     digest.Digest
	inputs     [][]link // for each input of the step, the keys that lead to it; at least one
	result     result   // the newest one
	unitedInto *record  // the record that stands for this one now; nil for none
}

// link is a key of a step's input. The selector names the part of the input that the step
// reads, "" for all of it.
type link struct {
	from     *record
	selector string
}

// result is the layers that a step made, the base's first; the zero value is no result.
type result struct {
	created time.Time
	layers  []digest.Digest
}

// records are those of a cache, each after its inputs.
func (c Cache) records() []*record {
	have := map[digest.Digest]bool{}
	for _, l := range c.Layers {
		have[l.Digest] = true
	}
	var all []*record
	known := make([]*record, len(c.Config.Records))
	var read func(i int) *record
	read = func(i int) *record {
		if known[i] != nil {
			return known[i]
		}
		from := c.Config.Records[i]
		r := &record{digest: from.Digest, inputs: make([][]link, len(from.Inputs)), result: newest(c.Config.Layers, from, have)}
		for n, input := range from.Inputs {
			for _, in := range input {
				r.inputs[n] = append(r.inputs[n], link{read(in.LinkIndex), in.Selector})
			}
		}
		known[i] = r
		all = append(all, r)
		return r
	}
	for i := range c.Config.Records {
		read(i)
	}
	return all
}

// newest is the newest result of a record whose layers all have a descriptor. BuildKit
// validates nothing that the config says beyond a layer without one, so newest stops there.
func newest(layers []cacheconfig.CacheLayer, r cacheconfig.CacheRecord, have map[digest.Digest]bool) result {
	var best result
	for _, one := range r.Results {
		found := result{created: one.CreatedAt}
		i := one.LayerIndex
		for ; i != -1 && have[layers[i].Blob]; i = layers[i].ParentIndex {
			found.layers = append(found.layers, layers[i].Blob)
		}
		if slices.Reverse(found.layers); i == -1 {
			best = best.newer(found)
		}
	}
	for _, one := range r.ChainedResults {
		found := result{created: one.CreatedAt}
		for _, i := range one.LayerIndexes {
			if !have[layers[i].Blob] {
				break
			}
			found.layers = append(found.layers, layers[i].Blob)
		}
		if len(found.layers) == len(one.LayerIndexes) {
			best = best.newer(found)
		}
	}
	return best
}

// newer is the newer of two results, and of two equally old ones the first.
func (r result) newer(other result) result {
	if len(r.layers) == 0 || len(other.layers) > 0 && other.created.After(r.created) {
		return other
	}
	return r
}

// encode writes records that are in order as a config. Results that begin with the same
// layers share them.
func encode(all []*record) cacheconfig.CacheConfig {
	var config cacheconfig.CacheConfig
	type key struct {
		blob   digest.Digest
		parent int
	}
	layers, numbers := map[key]int{}, map[*record]int{}
	for i, r := range all {
		numbers[r] = i
		out := cacheconfig.CacheRecord{Digest: r.digest}
		for _, input := range r.inputs {
			var links []cacheconfig.CacheInput
			for _, l := range input {
				links = append(links, cacheconfig.CacheInput{Selector: l.selector, LinkIndex: numbers[l.from]})
			}
			out.Inputs = append(out.Inputs, links)
		}
		at := key{parent: -1}
		for _, at.blob = range r.result.layers {
			n, known := layers[at]
			if !known {
				n = len(config.Layers)
				layers[at] = n
				config.Layers = append(config.Layers, cacheconfig.CacheLayer{Blob: at.blob, ParentIndex: at.parent})
			}
			at.parent = n
		}
		if len(r.result.layers) > 0 {
			out.Results = []cacheconfig.CacheResult{{LayerIndex: at.parent, CreatedAt: r.result.created}}
		}
		config.Records = append(config.Records, out)
	}
	return config
}
