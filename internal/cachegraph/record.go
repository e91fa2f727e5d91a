package cachegraph

import (
	"errors"
	"fmt"
	"strings"
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
	uses       uint64   // the builds that used it, a bit for each; see [Accumulate]
	unitedInto *record  // the record that this one is merged into; nil: none
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
	layers  *chain
}

// newer is the newer of two results, and of two equally old ones the first.
func (r result) newer(other result) result {
	if r.layers == nil || other.layers != nil && other.created.After(r.created) {
		return other
	}
	return r
}

// recordReader reads the records of a config. It finds the same errors as BuildKit's parser
// (v0.34.2, cache/remotecache/v1/parse.go).
type recordReader struct {
	layerReader
	config   cacheconfig.CacheConfig
	all      []*record // each after its inputs
	known    []*record // by index
	visited  []bool
	expanded int // layers of all results together
}

// records are those of a cache, each after its inputs. The number is that of the layers of
// all results together.
func (c Cache) records(shared chains) (all []*record, expanded int, err error) {
	r, err := c.read(shared)
	if err != nil {
		return nil, 0, err
	}
	return r.all, r.expanded, nil
}

// read reads all records of a cache.
func (c Cache) read(shared chains) (*recordReader, error) {
	if n := len(c.Config.Records); n > maxRecords {
		return nil, tooMany(n, "records", maxRecords)
	}
	if n := len(c.Config.Layers); n > maxLayers {
		return nil, tooMany(n, "layers", maxLayers)
	}
	r := &recordReader{
		layerReader: layerReader{
			layers: c.Config.Layers, have: map[digest.Digest]bool{}, chains: shared,
			read: make([]layerState, len(c.Config.Layers)),
		},
		config: c.Config, known: make([]*record, len(c.Config.Records)), visited: make([]bool, len(c.Config.Records)),
	}
	for _, l := range c.Layers {
		r.have[l.Digest] = true
	}
	for i := range c.Config.Records {
		if _, err := r.record(i); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// ignored reports whether BuildKit leaves a record out (v0.34.2, cache/remotecache/v1/chains.go,
// Add).
func ignored(d digest.Digest) bool { return strings.HasPrefix(string(d), "random:") }

func (r *recordReader) record(i int) (*record, error) {
	if i < 0 || i >= len(r.known) {
		return nil, fmt.Errorf("invalid record ID: %d", i)
	}
	if r.known[i] != nil {
		return r.known[i], nil
	}
	if r.visited[i] {
		return nil, errors.New("invalid looping record")
	}
	r.visited[i] = true
	from := r.config.Records[i]
	out := &record{digest: from.Digest, inputs: make([][]link, len(from.Inputs))}
	for n, input := range from.Inputs {
		if len(input) == 0 {
			return nil, fmt.Errorf("invalid empty input for record %d", i)
		}
		for _, in := range input {
			source, err := r.record(in.LinkIndex)
			if err != nil {
				return nil, err
			}
			if ignored(source.digest) {
				return nil, fmt.Errorf("invalid input of record %d: record %d is left out", i, in.LinkIndex)
			}
			out.inputs[n] = append(out.inputs[n], link{source, in.Selector})
		}
	}
	var err error
	if out.result, err = r.newest(from); err != nil {
		return nil, err
	}
	if r.known[i] = out; !ignored(out.digest) {
		r.all = append(r.all, out)
	}
	return out, nil
}

// newest is the newest result of a record whose layers all have a descriptor.
func (r *recordReader) newest(from cacheconfig.CacheRecord) (result, error) {
	var best result
	take := func(created time.Time, c *chain) {
		if c != nil {
			r.expanded += c.length
			best = best.newer(result{created, c})
		}
	}
	for _, one := range from.Results {
		c, err := r.chain(one.LayerIndex)
		if err != nil {
			return result{}, err
		}
		take(one.CreatedAt, c)
	}
	for _, one := range from.ChainedResults {
		c, err := r.list(one.LayerIndexes)
		if err != nil {
			return result{}, err
		}
		take(one.CreatedAt, c)
	}
	return best, nil
}

// expanded is the number of the layers of all results together.
func expanded(all []*record) int {
	n := 0
	for _, r := range all {
		if r.result.layers != nil {
			n += r.result.layers.length
		}
	}
	return n
}

// encode writes records that are in order as a config.
func encode(all []*record) cacheconfig.CacheConfig {
	var config cacheconfig.CacheConfig
	numbers, layers := map[*record]int{}, map[*chain]int{}
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
		if r.result.layers != nil {
			last := encodeChain(&config, layers, r.result.layers)
			out.Results = []cacheconfig.CacheResult{{LayerIndex: last, CreatedAt: r.result.created}}
		}
		config.Records = append(config.Records, out)
	}
	return config
}

// encodeChain writes those layers of a chain that are not in the config yet, and returns the
// index of the last one.
func encodeChain(config *cacheconfig.CacheConfig, numbers map[*chain]int, c *chain) int {
	var missing []*chain
	at := -1
	for ; c != nil; c = c.parent {
		if n, known := numbers[c]; known {
			at = n
			break
		}
		missing = append(missing, c)
	}
	for k := len(missing) - 1; k >= 0; k-- {
		config.Layers = append(config.Layers, cacheconfig.CacheLayer{Blob: missing[k].blob, ParentIndex: at})
		at = len(config.Layers) - 1
		numbers[missing[k]] = at
	}
	return at
}
