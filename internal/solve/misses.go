package solve

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	gw "github.com/moby/buildkit/frontend/gateway/client"
	provenance "github.com/moby/buildkit/solver/llbsolver/provenance/types"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/cachemiss"
	"github.com/warmlayer/warmlayer/internal/contexthash"
	"github.com/warmlayer/warmlayer/internal/llbgraph"
)

// recall is what a run needs to tell why steps were not cached.
type recall struct {
	files *contexthash.Files
	began time.Time

	mu     sync.Mutex
	graph  llbgraph.Graph // of the last attempt; the zero value: it is not known
	now    *cachemiss.Memory
	missed map[digest.Digest]bool       // steps that ran, in all attempts
	ids    map[string][]digest.Digest   // the digests of a step, by its name in a provenance
	chains map[string][][]digest.Digest // the layers of its result in several compressions, with those below
}

func newRecall() *recall {
	return &recall{files: contexthash.New(), began: time.Now(), missed: map[digest.Digest]bool{}, ids: map[string][]digest.Digest{}, chains: map[string][][]digest.Digest{}}
}

// planned reads what the frontend wants to be done. It is nothing where a builder does not tell, or where the LLB is
// not understood.
func (r *recall) planned(ctx context.Context, result *gw.Result) llbgraph.Graph {
	graph, err := llbgraph.Read(ctx, result)
	if err != nil {
		graph = llbgraph.Graph{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.graph, r.now = graph, nil
	return graph
}

// miss notes that a step ran.
func (r *recall) miss(step digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.missed[step] = true
}

// ran tells whether a step ran.
func (r *recall) ran(step digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.missed[step]
}

// layers are the layers of steps, as far as they are known.
func (r *recall) layers() cachemiss.Chains {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := cachemiss.Chains{}
	for id, steps := range r.ids {
		for _, d := range steps {
			all[d] = r.chains[id]
		}
	}
	return all
}

// provenance takes the layers of steps from a provenance in mode max (v0.34.2, solver/llbsolver/provenance.go, addLayers: by
// "step3:0", a step and an output of it). Those of the build and of its exports have the same steps, under digests of their own.
// The key tells results of several platforms apart.
func (r *recall) provenance(key string, p *provenance.ProvenancePredicateSLSA02) {
	if p.BuildConfig == nil || p.Metadata == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for d, id := range p.BuildConfig.DigestMapping {
		id = key + " " + id
		r.ids[id] = append(r.ids[id], d)
	}
	for output, chains := range p.Metadata.BuildKitMetadata.Layers {
		id, _, _ := strings.Cut(output, ":")
		id = key + " " + id
		for _, chain := range chains {
			var layers []digest.Digest
			for _, l := range chain {
				layers = append(layers, l.Digest)
			}
			r.chains[id] = append(r.chains[id], layers)
		}
	}
}

// plan is what the frontend wants to be done.
func (r *recall) plan() llbgraph.Graph {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.graph
}

// The time for files that the builder did not ask for: a share of the build's, and at least a little.
const (
	hashShare = 0.03
	hashLeast = 20 * time.Millisecond
)

// current is what there is to remember of this build.
func (b *run) current(ctx context.Context, limit time.Duration) cachemiss.Memory {
	b.recall.mu.Lock()
	defer b.recall.mu.Unlock()
	if b.recall.now == nil {
		until := time.Now().Add(limit)
		now := cachemiss.Of(&b.recall.graph, cachemiss.Options{Redact: b.Redact, Files: func(of cachemiss.Local) cachemiss.Tree {
			return b.recall.files.Tree(ctx, of, time.Until(until))
		}})
		b.recall.now = &now
	}
	return *b.recall.now
}

// limit is the time that may be spent on hashes now.
func (r *recall) limit() time.Duration {
	return max(hashLeast, time.Duration(float64(time.Since(r.began))*hashShare))
}

// memory is what a scope stores of this build; nil: nothing.
func (b *run) memory() []byte {
	defer b.time.Start("remember build")()
	now := b.current(context.Background(), b.recall.limit())
	if len(now.Steps) == 0 {
		return nil
	}
	var former []cachemiss.Memory
	for _, s := range b.remembered() {
		former = append(former, s.Builds...)
	}
	return now.Layered(b.recall.layers(), b.recall.ran, former).Stored(cachemiss.MaxStored)
}

// explainMisses says why steps ran.
func (b *run) explainMisses(ctx context.Context) {
	if len(b.recall.missed) == 0 {
		return
	}
	defer b.time.Start("explain misses")()
	b.result.Misses = cachemiss.Explain(cachemiss.Request{
		Now: b.current(ctx, b.recall.limit()), Missed: b.recall.ran,
		NoCache: b.uncached, Scopes: b.remembered(), Fault: b.result.Retried,
	})
}

// hashAll is the time for the files of a build that is not made.
const hashAll = 10 * time.Minute

// why says which steps would not be cached now, and why.
func (b *run) why(ctx context.Context) error {
	m, err := b.mounts(ctx)
	if err != nil {
		return err
	}
	t := b.target(m, nil)
	watch, attrs := newWatch(t.session), b.attrs(t)
	t.watch, t.show, t.internal = watch.update, b.display, true
	_, err = b.gateway(ctx, t, nil, func(ctx context.Context, c gw.Client) (*gw.Result, error) {
		result, err := c.Solve(ctx, gw.SolveRequest{Frontend: frontend(attrs), FrontendOpt: attrs})
		if err == nil {
			b.recall.planned(ctx, result)
		}
		return gw.NewResult(), err // of which nothing is made
	})
	if err != nil {
		b.result.Failure = b.failure(ctx, err, watch)
		return err
	}
	now := b.current(ctx, hashAll)
	if len(now.Steps) == 0 {
		return errUntold
	}
	b.result.Misses = cachemiss.Explain(cachemiss.Request{Now: now, NoCache: b.uncached, Scopes: b.remembered()})
	b.result.Sources = b.Caches.Reads.Outcomes()
	return ctx.Err()
}

var errUntold = errors.New("the builder does not say what it would do, or the Dockerfile has no steps")

// uncached tells whether the steps of a stage were to run anyway.
func (b *run) uncached(stage string) bool {
	return b.Inputs.NoCache || slices.Contains(b.Inputs.NoCacheFilters, stage)
}

// remembered are the scopes that were read. What cannot be parsed is not remembered.
func (b *run) remembered() []cachemiss.Scope {
	var all []cachemiss.Scope
	for _, r := range b.Caches.Reads.Remembered() {
		s := cachemiss.Scope{Name: r.Name, Absent: r.Absent, Err: r.Err, Lost: r.Lost}
		for _, stored := range r.Builds {
			if m, err := cachemiss.Parse(stored); err == nil {
				s.Builds = append(s.Builds, m)
			}
		}
		all = append(all, s)
	}
	return all
}
