// Package llbgraph knows which file systems the steps of a build make, and which of them lie on each other. It
// computes only.
//
//	g, err := llbgraph.Read(ctx, result) // of a frontend
//	image := g.Layers(g.Results...)      // what the image has the layers of
//	for _, o := range g.Outputs(step) {
//		def, err := g.Definition(o) // whose result is this step's file system
//	}
package llbgraph

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// Graph is what a frontend wants to be done: its LLB (BuildKit v0.34.2, solver/pb/ops.proto), by the
// digests that the status stream gives. The zero value has no steps.
type Graph struct {
	Results []Output // one for each platform

	ops      map[digest.Digest]*pb.Op
	raw      map[digest.Digest][]byte
	metadata map[digest.Digest]llb.OpMetadata
	order    []digest.Digest // inputs before what uses them
	texts    []string        // of Dockerfiles
}

// Output is one of the file systems that a step makes.
type Output struct {
	Step  digest.Digest
	index int64
}

func empty() Graph {
	return Graph{ops: map[digest.Digest]*pb.Op{}, raw: map[digest.Digest][]byte{}, metadata: map[digest.Digest]llb.OpMetadata{}}
}

// Read reads the graph of the results that a frontend returned before anything is done.
func Read(ctx context.Context, r *gw.Result) (Graph, error) {
	g := empty()
	refs := []gw.Reference{r.Ref}
	for _, ref := range r.Refs {
		refs = append(refs, ref)
	}
	for _, ref := range refs {
		if ref == nil {
			continue // an image without layers
		}
		state, err := ref.ToState()
		if err != nil {
			return Graph{}, err
		}
		def, err := state.Marshal(ctx)
		if err != nil {
			return Graph{}, err
		}
		if err := g.add(def); err != nil {
			return Graph{}, err
		}
		for _, info := range def.Source.GetInfos() {
			if text := string(info.GetData()); !slices.Contains(g.texts, text) {
				g.texts = append(g.texts, text)
			}
		}
	}
	return g, nil
}

// add adds a definition, whose last operation names its result.
func (g *Graph) add(def *llb.Definition) error {
	for i, raw := range def.Def {
		op, d := new(pb.Op), digest.FromBytes(raw)
		if err := op.Unmarshal(raw); err != nil {
			return fmt.Errorf("parse LLB: %w", err)
		}
		if i == len(def.Def)-1 {
			for _, in := range op.Inputs {
				g.Results = append(g.Results, input(in))
			}
			return nil
		}
		if g.ops[d] == nil {
			g.ops[d], g.raw[d], g.metadata[d] = op, raw, def.Metadata[d]
			g.order = append(g.order, d)
		}
	}
	return nil
}

func input(in *pb.Input) Output { return Output{digest.Digest(in.Digest), in.Index} }

// Outputs are those of an operation that other operations or the results use.
func (g *Graph) Outputs(d digest.Digest) []Output {
	used := slices.Clone(g.Results)
	for _, op := range g.ops {
		for _, in := range op.Inputs {
			used = append(used, input(in))
		}
	}
	used = slices.DeleteFunc(used, func(o Output) bool { return o.Step != d })
	slices.SortFunc(used, func(a, b Output) int { return int(a.index - b.index) })
	return slices.Compact(used)
}

// Inputs are the outputs that a step uses.
func (g *Graph) Inputs(step digest.Digest) (all []Output) {
	if op := g.ops[step]; op != nil {
		for _, in := range op.Inputs {
			all = append(all, input(in))
		}
	}
	return all
}

// Users are the steps that use an output of a step.
func (g *Graph) Users(step digest.Digest) (all []digest.Digest) {
	for _, d := range g.order {
		if slices.ContainsFunc(g.ops[d].Inputs, func(in *pb.Input) bool { return in.Digest == string(step) }) {
			all = append(all, d)
		}
	}
	return all
}

// Behind are the steps that use a step, directly or through others.
func (g *Graph) Behind(step digest.Digest) map[digest.Digest]bool {
	behind := map[digest.Digest]bool{}
	for _, d := range g.order {
		if slices.ContainsFunc(g.ops[d].Inputs, func(in *pb.Input) bool {
			return in.Digest == string(step) || behind[digest.Digest(in.Digest)]
		}) {
			behind[d] = true
		}
	}
	return behind
}

// Layered tells whether a step's file system is one of layers: a step's, or an image's, and not a context's.
func (g *Graph) Layered(step digest.Digest) bool {
	op := g.ops[step]
	if op == nil {
		return false
	}
	source := op.GetSource()
	return source == nil || strings.HasPrefix(source.Identifier, "docker-image://")
}

// below are the file systems whose layers are below an output's own; none below scratch and sources.
func (g *Graph) below(o Output) []Output {
	op := g.ops[o.Step]
	if op == nil {
		return nil
	}
	at := func(i int64) []Output {
		if i < 0 || i >= int64(len(op.Inputs)) {
			return nil
		}
		return []Output{input(op.Inputs[i])}
	}
	switch is := op.Op.(type) {
	case *pb.Op_Exec:
		for _, m := range is.Exec.Mounts {
			if m.Output == o.index {
				return at(m.Input)
			}
		}
	case *pb.Op_File:
		for _, a := range is.File.Actions {
			if a.Output == o.index {
				return at(base(is.File, a, int64(len(op.Inputs))))
			}
		}
	default: // merges and differences are made of all their inputs
		return g.Inputs(o.Step)
	}
	return nil
}

// base is the input that the first of a chain of file actions works on.
func base(file *pb.FileOp, a *pb.FileAction, inputs int64) int64 {
	for range file.Actions {
		if a.Input < inputs || a.Input-inputs >= int64(len(file.Actions)) {
			break
		}
		a = file.Actions[a.Input-inputs]
	}
	return a.Input
}

// Layers are the outputs whose layers are in one of these, which are among them.
func (g *Graph) Layers(of ...Output) map[Output]bool {
	met := map[Output]bool{}
	for len(of) > 0 {
		o := of[len(of)-1]
		if of = of[:len(of)-1]; !met[o] {
			met[o] = true
			of = append(of, g.below(o)...)
		}
	}
	return met
}

// Meets are the outputs of a set that are met first on the ways down from an output.
func (g *Graph) Meets(o Output, set map[Output]bool) []Output {
	var first []Output
	ways, met := g.below(o), map[Output]bool{}
	for len(ways) > 0 {
		next := ways[len(ways)-1]
		ways = ways[:len(ways)-1]
		switch {
		case met[next]:
		case set[next]:
			first = append(first, next)
		default:
			ways = append(ways, g.below(next)...)
		}
		met[next] = true
	}
	return first
}

// Definition is the LLB whose result is an output.
func (g *Graph) Definition(o Output) (*llb.Definition, error) {
	needed := map[digest.Digest]bool{o.Step: true}
	for _, d := range slices.Backward(g.order) {
		if needed[d] {
			for _, in := range g.ops[d].Inputs {
				needed[digest.Digest(in.Digest)] = true
			}
		}
	}
	def := &llb.Definition{Metadata: map[digest.Digest]llb.OpMetadata{}}
	for _, d := range g.order {
		if needed[d] {
			def.Def, def.Metadata[d] = append(def.Def, g.raw[d]), g.metadata[d]
		}
	}
	last, err := (&pb.Op{Inputs: []*pb.Input{{Digest: string(o.Step), Index: o.index}}}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("make LLB: %w", err)
	}
	def.Def = append(def.Def, last)
	return def, nil
}
