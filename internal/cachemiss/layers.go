package cachemiss

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
)

// LayerID is the beginning of a layer's digest in base64: 64 bits, which tell the layers of a cache apart.
func LayerID(d digest.Digest) string {
	sum, err := hex.DecodeString(d.Encoded())
	if err != nil || len(sum) < 8 {
		return d.Encoded()
	}
	return base64.RawURLEncoding.EncodeToString(sum[:8])
}

// Chains are the layers of steps' results with those of the steps below: by the step's digest, one chain for each
// compression that exists.
type Chains map[digest.Digest][][]digest.Digest

// Layered is the memory with the layers of its steps: from the chains, and where these lack a step, from what a former build
// remembers of the same step. Of a step that ran, a former build knows nothing.
func (m Memory) Layered(chains Chains, ran func(digest.Digest) bool, former []Memory) Memory {
	known := map[string][]string{}
	for _, f := range former {
		for _, s := range f.Steps {
			if id := s.identity(); len(s.Layers) > 0 && known[id] == nil {
				known[id] = s.Layers
			}
		}
	}
	m.Steps = slices.Clone(m.Steps)
	for i := range m.Steps {
		s := &m.Steps[i]
		s.Layers = m.own(*s, chains)
		if len(s.Layers) == 0 && !ran(s.Digest) {
			s.Layers = known[s.identity()]
		}
	}
	return m
}

// own are the layers of a step that its inputs do not have.
func (m Memory) own(s Step, chains Chains) []string {
	below := map[digest.Digest]bool{}
	for _, in := range s.Inputs {
		for _, chain := range chains[m.Steps[in].Digest] {
			for _, layer := range chain {
				below[layer] = true
			}
		}
	}
	var all []string
	for _, chain := range chains[s.Digest] {
		for _, layer := range chain {
			if id := LayerID(layer); !below[layer] && !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
	}
	return all
}

// identity is the same for a step in two builds when they are the same as far as a memory knows, without the files that it reads.
func (s Step) identity() string {
	words := []string{s.Platform, s.Stage, s.Name, string(s.Kind)}
	for _, f := range s.Facts {
		words = append(words, f.Key, f.Hash)
	}
	return strings.Join(words, "\x00")
}
