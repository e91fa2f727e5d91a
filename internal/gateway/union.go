package gateway

import (
	"slices"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
)

// record is one of a cache config's: a key by which a step is known, and what it made.
type record struct {
	digest digest.Digest
	inputs [][]link // by the step's input, the keys by which that is known; none is empty
	result result   // the newest one
	same   *record  // the one that this has become, nil for none
}

// link is a key of a step's input, of which the step sees the part that the selector names.
type link struct {
	from     *record
	selector string
}

// result is the layers of a step, the base's first; the zero value is none.
type result struct {
	created time.Time
	layers  []digest.Digest
}

// records are those of a cache, each after its inputs.
func (c cache) records() []*record {
	have := map[digest.Digest]bool{}
	for _, l := range c.Manifest.Layers {
		have[l.Digest] = true
	}
	var all []*record
	known := make([]*record, len(c.config.Records))
	var read func(i int) *record
	read = func(i int) *record {
		if known[i] != nil {
			return known[i]
		}
		from := c.config.Records[i]
		r := &record{digest: from.Digest, inputs: make([][]link, len(from.Inputs)), result: newest(c.config.Layers, from, have)}
		for n, input := range from.Inputs {
			for _, in := range input {
				r.inputs[n] = append(r.inputs[n], link{read(in.LinkIndex), in.Selector})
			}
		}
		known[i] = r
		all = append(all, r)
		return r
	}
	for i := range c.config.Records {
		read(i)
	}
	return all
}

// newest is the newest result of a record whose layers are all there. Where one is not,
// BuildKit has not looked at what the config says beyond it, and it may be anything.
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

// known is what two records have in common that may be one: the digest, and a key of the
// first input, the zero value without inputs.
type known struct {
	digest digest.Digest
	first  link
}

// unite makes one of all records that a build cannot tell apart: of one digest, and with a
// key in common for each input. What they become has the keys of both, by which it may match
// others in turn, so it goes on until nothing changes. That is soon, since inputs come first.
func unite(all []*record) []*record {
	for united := true; united; {
		united = false
		by := map[known][]*record{}
		for _, r := range all {
			for _, k := range r.known() {
				for _, other := range by[k] {
					united = other.now().absorb(r.now()) || united
				}
				by[k] = append(by[k], r)
			}
		}
		all = slices.DeleteFunc(all, func(r *record) bool { return r.same != nil })
	}
	return all
}

// known resolves a record's links, and is all that it is known by.
func (r *record) known() []known {
	if len(r.inputs) == 0 {
		return []known{{digest: r.digest}}
	}
	r.resolve()
	var all []known
	for _, first := range r.inputs[0] {
		all = append(all, known{r.digest, first})
	}
	return all
}

// now is what a record has become.
func (r *record) now() *record {
	for r.same != nil {
		if r.same.same != nil {
			r.same = r.same.same
		}
		r = r.same
	}
	return r
}

// resolve makes links lead to what their records have become, each once.
func (r *record) resolve() {
	for i, input := range r.inputs {
		var links []link
		for _, l := range input {
			if l.from = l.from.now(); !slices.Contains(links, l) {
				links = append(links, l)
			}
		}
		r.inputs[i] = links
	}
}

// absorb makes one of two records if they match, and tells whether it did.
func (r *record) absorb(other *record) bool {
	if r == other || len(r.inputs) != len(other.inputs) {
		return false
	}
	for i, input := range r.inputs {
		if !slices.ContainsFunc(input, func(l link) bool { return slices.Contains(other.inputs[i], l) }) {
			return false
		}
	}
	for i, input := range other.inputs {
		r.inputs[i] = append(r.inputs[i], input...)
	}
	r.result, other.same = r.result.newer(other.result), r
	r.resolve()
	return true
}

// order puts each record after its inputs. Caches that go each its own way may lead round in
// a circle: then a record loses the keys that lead back. One that keeps a key of each input
// is always at hand, since no single cache has a circle.
func order(all []*record) []*record {
	waits := map[*record]int{} // for how many keys
	users := map[*record][]*record{}
	var ready []*record
	for _, r := range all {
		for _, input := range r.inputs {
			waits[r] += len(input)
			for _, l := range input {
				users[l.from] = append(users[l.from], r)
			}
		}
		if waits[r] == 0 {
			ready = append(ready, r)
		}
	}
	var ordered []*record
	done := map[*record]bool{}
	for len(ordered) < len(all) {
		if len(ready) == 0 {
			i := slices.IndexFunc(all, func(r *record) bool { return !done[r] && r.loses(done) })
			ready = append(ready, all[i])
		}
		r := ready[0]
		ready = ready[1:]
		ordered, done[r] = append(ordered, r), true
		for _, user := range users[r] {
			if waits[user]--; waits[user] == 0 && !done[user] {
				ready = append(ready, user)
			}
		}
	}
	return ordered
}

// loses takes the keys from a record that are not done, if one of each input is, and tells
// whether it did.
func (r *record) loses(done map[*record]bool) bool {
	known := func(l link) bool { return done[l.from] }
	for _, input := range r.inputs {
		if !slices.ContainsFunc(input, known) {
			return false
		}
	}
	for i, input := range r.inputs {
		r.inputs[i] = slices.DeleteFunc(input, func(l link) bool { return !known(l) })
	}
	return true
}

// write writes records down, which are in order, as a config.
func write(all []*record) cacheconfig.CacheConfig {
	var config cacheconfig.CacheConfig
	type place struct {
		blob   digest.Digest
		parent int
	}
	layers, numbers := map[place]int{}, map[*record]int{}
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
		at := place{parent: -1}
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
