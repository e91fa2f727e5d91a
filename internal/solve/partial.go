package solve

import (
	"context"
	"errors"
	"time"

	"github.com/moby/buildkit/client"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/cachemiss"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/llbgraph"
	"github.com/warmlayer/warmlayer/internal/partial"
)

// partialTimeout bounds the export of a build that failed: the job waits for it to say so.
const partialTimeout = 2 * time.Minute

// errPartial says what a scope got of a build that failed.
var errPartial = errors.New("the build failed; what it made before is cached")

// startPartial begins to export what a build made before one of its steps failed, so that the next try starts there. It
// goes to the scopes that keep what they have.
func (x *exports) startPartial(ctx context.Context, failed error) {
	b, done := x.run, x.watch.done
	if !errors.As(failed, new(*errdefs.VertexError)) || !x.watch.ranAny() {
		return // or all that was made came from caches
	}
	graph := b.recall.plan()
	if x.partial = graph.Tips(done); len(x.partial) == 0 {
		return
	}
	steps := len(b.result.Steps)
	x.made = cacheplan.Exported{Hits: b.result.Hits(), Steps: steps, Memory: func() []byte {
		return b.current(ctx, b.recall.limit()).Failed(done).Stored(cachemiss.MaxStored)
	}}
	ctx = x.begin(ctx)
	for i, d := range x.destinations {
		if x.results[i] == nil && d.Adds() {
			x.startOne(ctx, i, d)
		}
	}
}

// solvePartial is an export of the results that a failed build made. They are in the builder, and no step runs.
func (b *run) solvePartial(ctx context.Context, t target, results []llbgraph.Output) (*client.SolveResponse, error) {
	attrs := b.attrs(t)
	r := partial.Request{Frontend: gw.SolveRequest{Frontend: frontend(attrs), FrontendOpt: attrs}, Planned: b.recall.plan(), Results: results}
	for _, i := range t.imports {
		r.Imports = append(r.Imports, gw.CacheOptionsEntry{Type: i.Type, Attrs: i.Attrs})
	}
	return b.gateway(ctx, t, map[string]string{}, r.Build)
}

// done tells whether a step has ended well, or was cached.
func (w *watch) done(step digest.Digest) bool {
	return w.is(step, func(v *vertex) bool { return v.completed && v.err == "" })
}

// ranAny tells whether a step has run to its end.
func (w *watch) ranAny() bool {
	for _, s := range w.steps() {
		if !s.Cached && s.Error == "" && w.done(s.Digest) {
			return true
		}
	}
	return false
}
