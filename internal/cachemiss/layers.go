package cachemiss

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
)

// LayerID is the first 64 bits of a layer's digest in base64: 11 characters. A digest that is not hexadecimal is returned without its
// algorithm.
func LayerID(d digest.Digest) string {
	sum, err := hex.DecodeString(d.Encoded())
	if err != nil || len(sum) < 8 {
		return d.Encoded()
	}
	return base64.RawURLEncoding.EncodeToString(sum[:8])
}

// Chains are the layers of each step's result, those of the steps below included. The key is the step's digest; the value has one
// chain for each compression that exists.
type Chains map[digest.Digest][][]digest.Digest

// Layered is the memory with the layers of its steps: from the chains, and where these lack a step, from what a former build
// remembers of the same step. For a step that ran, former builds are not used, since their layers are others.
// ran tells whether a step ran in this build.
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

// identity is equal for the same step of two builds. The contents of the files that it reads do not count.
func (s Step) identity() string {
	words := []string{s.Platform, s.Stage, s.Name, string(s.Kind)}
	for _, f := range s.Facts {
		words = append(words, f.Key, f.Hash)
	}
	return strings.Join(words, "\x00")
}
