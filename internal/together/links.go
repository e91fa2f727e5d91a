package together

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/tonistiigi/fsutil"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// link is the result of a target that other targets wait for.
type link struct {
	once   sync.Once
	done   chan struct{}
	asked  Asked
	inputs inputsByPlatform
	err    error
}

// Asked is what a target's frontend was asked.
type Asked struct {
	Frontend string
	Attrs    map[string]string
	Context  string               // the context's directory; "": it is none
	Files    map[string]fsutil.FS // that are sent, by the names of mounts
	Layouts  map[string]content.Store
	Links    []syntax.Pair // named contexts that are other targets: the context's name, and the target's
}

// inputsByPlatform are the file systems of a result, by their platforms: "" for the only one.
type inputsByPlatform map[string]input

// input is a file system that a frontend has not made, with the configuration of its image.
type input struct {
	definition *pb.Definition
	config     []byte // nil: none
}

// link is what becomes of a target.
func (s *Shared) link(target string) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[target]
	if l == nil {
		l = &link{done: make(chan struct{})}
		s.links[target] = l
	}
	return l
}

func (l *link) end(q Asked, inputs inputsByPlatform, err error) {
	l.once.Do(func() {
		l.asked, l.inputs, l.err = q, inputs, err
		close(l.done)
	})
}

// wait waits until the target's frontend has answered.
func (l *link) wait(ctx context.Context) error {
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Answered keeps the result of a target for those that have it as a context.
func (s *Shared) Answered(ctx context.Context, target string, q Asked, r *gw.Result) {
	inputs, err := inputsOf(ctx, r)
	s.link(target).end(q, inputs, err)
}

// inputsOf are the file systems of a result.
func inputsOf(ctx context.Context, r *gw.Result) (inputsByPlatform, error) {
	refs := maps.Clone(r.Refs)
	if r.Ref != nil {
		refs = map[string]gw.Reference{"": r.Ref}
	}
	all := inputsByPlatform{}
	for platform, ref := range refs {
		state, key := llb.Scratch(), exptypes.ExporterImageConfigKey
		if platform != "" {
			key += "/" + platform
		}
		if ref != nil {
			var err error
			if state, err = ref.ToState(); err != nil {
				return nil, err
			}
		}
		def, err := state.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		all[platform] = input{def.ToPB(), r.Metadata[key]}
	}
	return all, nil
}

// Links are results that a frontend gets as named contexts, by the contexts' names.
type Links map[string]inputsByPlatform

// Give gives a frontend the results, as docker buildx does (v0.37.0, build/build.go, waitContextDeps).
func (all Links) Give(request *gw.SolveRequest) {
	for name, inputs := range all {
		for platform, in := range inputs {
			key := name
			if platform != "" {
				key += "::" + platform
			}
			if request.FrontendInputs == nil {
				request.FrontendInputs = map[string]*pb.Definition{}
			}
			request.FrontendInputs[key], request.FrontendOpt["context:"+key] = in.definition, "input:"+key
			if in.config != nil {
				metadata, _ := json.Marshal(map[string][]byte{exptypes.ExporterImageConfigKey: in.config}) // bytes always encode
				request.FrontendOpt["input-metadata:"+key] = string(metadata)
			}
		}
	}
}

// Links are the results of other targets that a solve needs. A build has what these targets' own builds have. An export has what
// their frontends answer anew, since their directories must be sent anew: see [Shared]. ctx is that of the whole solve, gateway that of its
// client. A nil Shared may have no targets.
func (s *Shared) Links(ctx, gateway context.Context, on *client.Client, c gw.Client, targets []syntax.Pair, export bool) (Links, error) {
	all := Links{}
	for _, l := range targets {
		other := s.link(l.Value)
		err := other.wait(gateway)
		if all[l.Key] = other.inputs; err == nil && export {
			all[l.Key], err = s.anew(ctx, gateway, on, c, other.asked)
		}
		if err != nil {
			return nil, fmt.Errorf("context %s: target %s: %w", l.Key, l.Value, err)
		}
	}
	return all, nil
}

// Empty are any file systems in place of the targets' results, for a question about a Dockerfile: nothing is built.
func Empty(ctx context.Context, targets []syntax.Pair) (Links, error) {
	def, err := llb.Scratch().File(llb.Mkdir("/context", 0o755)).Marshal(ctx)
	if err != nil {
		return nil, err
	}
	all := Links{}
	for _, l := range targets {
		all[l.Key] = inputsByPlatform{"": {definition: def.ToPB()}}
	}
	return all, nil
}

// anew asks a target's frontend once more, with a session of its own, and returns its result.
func (s *Shared) anew(ctx, gateway context.Context, on *client.Client, c gw.Client, q Asked) (inputsByPlatform, error) {
	sent, err := serve(ctx, on, s.Key(q.Context), q.Files)
	if err != nil {
		return nil, err
	}
	request := gw.SolveRequest{Frontend: q.Frontend, FrontendOpt: maps.Clone(q.Attrs)}
	for mount := range q.Files {
		request.FrontendOpt[SessionOf+mount] = sent.ID()
	}
	links, err := s.Links(ctx, gateway, on, c, q.Links, true)
	if err != nil {
		return nil, err
	}
	links.Give(&request)
	result, err := c.Solve(gateway, request)
	if err != nil {
		return nil, err
	}
	return inputsOf(gateway, result)
}

// Layouts adds the OCI layouts of targets, which have answered, to others. A nil Shared may have no targets.
func (s *Shared) Layouts(targets []syntax.Pair, others map[string]content.Store) map[string]content.Store {
	all := maps.Clone(others)
	for _, l := range targets {
		q := s.link(l.Value).asked
		maps.Copy(all, s.Layouts(q.Links, q.Layouts))
	}
	return all
}
