package llbgraph

import (
	"slices"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// Step is an operation of a graph.
type Step struct {
	Digest digest.Digest
	Name   string // as BuildKit shows it: "[build 2/4] RUN make"; "": it has none of its own
	Op     *pb.Op // not to be changed
}

// Steps are all operations, each after its inputs.
func (g *Graph) Steps() []Step {
	all := make([]Step, 0, len(g.order))
	for _, d := range g.order {
		all = append(all, Step{Digest: d, Name: g.metadata[d].Description["llb.customname"], Op: g.ops[d]})
	}
	return all
}

// Like is the output that one of another graph of the same Dockerfile is in this graph. Their digests differ, since a
// source that the client sends has its session in it. It is false where the graphs are not alike.
func (g *Graph) Like(other Graph, o Output) (Output, bool) {
	at := slices.Index(other.order, o.Step)
	if at < 0 || len(g.order) != len(other.order) {
		return Output{}, false
	}
	same := Output{g.order[at], o.index}
	return same, g.metadata[same.Step].Description["llb.customname"] == other.metadata[o.Step].Description["llb.customname"]
}

// Dockerfiles are the texts of the files that the frontend made the graph of.
func (g *Graph) Dockerfiles() []string {
	return g.texts
}

// Tips are the outputs of steps that are done, and on which no other step that is done stands. All steps below
// them are done, too.
func (g *Graph) Tips(done func(digest.Digest) bool) []Output {
	under := map[digest.Digest]bool{}
	var tips []Output
	for _, d := range slices.Backward(g.order) {
		op := g.ops[d]
		if _, source := op.Op.(*pb.Op_Source); !under[d] && (source || !done(d)) {
			continue
		}
		if !under[d] {
			tips = append(tips, g.Outputs(d)...)
		}
		for _, in := range op.Inputs {
			under[digest.Digest(in.Digest)] = true
		}
	}
	return tips
}
