// Package partial makes one result of those that a build made before one of its steps failed.
//
//	r := partial.Request{Frontend: frontend, Planned: graph, Results: graph.Tips(done)}
//	client.Build(ctx, options, "warmlayer", r.Build, statuses) // with an export of the cache
package partial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gw "github.com/moby/buildkit/frontend/gateway/client"

	"github.com/warmlayer/warmlayer/internal/llbgraph"
)

// Request names the results.
type Request struct {
	Frontend gw.SolveRequest        // as the build has called it
	Planned  llbgraph.Graph         // the frontend's answer then
	Results  []llbgraph.Output      // of that graph; at least one
	Imports  []gw.CacheOptionsEntry // of the build
}

var errOther = errors.New("the frontend wants something else to be done than before")

// Build is a [gw.BuildFunc]. It calls the frontend again: in a session of its own files are found by their content, and
// in that of the build by the session, which no cache can hold (BuildKit v0.34.2, solver/llbsolver/ops/source.go,
// CacheMap). The results are in the builder, and no step runs.
func (r Request) Build(ctx context.Context, c gw.Client) (*gw.Result, error) {
	answer, err := c.Solve(ctx, r.Frontend)
	if err != nil {
		return nil, err
	}
	graph, err := llbgraph.Read(ctx, answer)
	if err != nil {
		return nil, fmt.Errorf("read what the frontend wants: %w", err)
	}
	all, parts := gw.NewResult(), exptypes.Platforms{}
	for n, o := range r.Results {
		same, ok := graph.Like(r.Planned, o)
		if !ok {
			return nil, errOther
		}
		ref, err := r.made(ctx, c, &graph, same)
		if err != nil {
			return nil, fmt.Errorf("load what was made: %w", err)
		}
		id := strconv.Itoa(n)
		all.AddRef(id, ref)
		parts.Platforms = append(parts.Platforms, exptypes.Platform{ID: id, Platform: platforms.DefaultSpec()})
	}
	// BuildKit wants a platform for each of several results; in a cache it means nothing.
	mapping, err := json.Marshal(parts)
	all.AddMeta(exptypes.ExporterPlatformsKey, mapping)
	return all, err
}

// made is an output of a graph.
func (r Request) made(ctx context.Context, c gw.Client, graph *llbgraph.Graph, o llbgraph.Output) (gw.Reference, error) {
	def, err := graph.Definition(o)
	if err != nil {
		return nil, err
	}
	result, err := c.Solve(ctx, gw.SolveRequest{Definition: def.ToPB(), CacheImports: r.Imports})
	if err != nil {
		return nil, err
	}
	return result.SingleRef()
}
