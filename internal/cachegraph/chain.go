package cachegraph

import (
	"errors"
	"fmt"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
)

// chain is the layers of a result: the last layer and the chain below it, nil for none.
// Results share their chains, so that reading and writing them takes time in proportion to
// the config, not to the sum of the chains' lengths.
type chain struct {
	blob   digest.Digest
	parent *chain
	length int // in layers
}

// chains has each chain once: equal chains are equal pointers.
type chains map[chainKey]*chain

type chainKey struct {
	blob   digest.Digest
	parent *chain
}

// on is the chain with one more layer on its parent.
func (c chains) on(parent *chain, blob digest.Digest) *chain {
	key := chainKey{blob, parent}
	known := c[key]
	if known == nil {
		known = &chain{blob: blob, parent: parent, length: 1}
		if parent != nil {
			known.length += parent.length
		}
		c[key] = known
	}
	return known
}

// layerReader reads the chains of a config's layers.
type layerReader struct {
	layers []cacheconfig.CacheLayer
	have   map[digest.Digest]bool // the blobs that have a descriptor
	chains chains
	read   []layerState // of each layer
}

type layerState struct {
	visited, done bool
	chain         *chain // nil: a layer of the chain has no descriptor
}

var errLayerLoop = errors.New("invalid looping layer")

// chain is the chain that ends with the layer i, nil when one of its layers has no
// descriptor. BuildKit validates nothing that the config says beyond such a layer (v0.34.2,
// cache/remotecache/v1/parse.go, getRemoteChain), so chain stops there.
func (r *layerReader) chain(i int) (*chain, error) {
	var path []int // from the last layer down
	var below *chain
	complete := true
	for n := i; ; n = r.layers[n].ParentIndex {
		if n < 0 || n >= len(r.layers) {
			return nil, fmt.Errorf("invalid layer index %d", n)
		}
		state := &r.read[n]
		if state.done {
			below, complete = state.chain, state.chain != nil
			break
		}
		if state.visited {
			return nil, errLayerLoop
		}
		state.visited = true
		path = append(path, n)
		if !r.have[r.layers[n].Blob] {
			complete = false
			break
		}
		if r.layers[n].ParentIndex == -1 {
			break
		}
	}
	for k := len(path) - 1; k >= 0; k-- {
		state := &r.read[path[k]]
		if state.done = true; complete {
			below = r.chains.on(below, r.layers[path[k]].Blob)
			state.chain = below
		}
	}
	return r.read[i].chain, nil
}

// list is the chain of layers that a result lists one by one, nil as in chain, and for an
// empty list.
func (r *layerReader) list(layers []int) (*chain, error) {
	var c *chain
	for _, n := range layers {
		if n < 0 || n >= len(r.layers) {
			return nil, fmt.Errorf("invalid layer index %d", n)
		}
		if !r.have[r.layers[n].Blob] {
			return nil, nil
		}
		c = r.chains.on(c, r.layers[n].Blob)
	}
	return c, nil
}
