package cacheplan

import (
	"context"
	"slices"
	"sync"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/scope"
)

// Pool is the import that several builds on one managed builder have in common: all that any of them reads. BuildKit runs a step once
// for builds that have it in common, and then finds what follows it only in the caches of the build that came first (v0.34.2,
// solver/jobs.go, load).
//
// It is one cache, where that is not larger than what BuildKit imports, and several caches else. How many there may be is known from the
// beginning, since BuildKit is told before they are read; those that are not needed are empty.
type Pool struct {
	mu    sync.Mutex
	left  int // builds that have not joined
	reads []*Reads
	full  chan struct{} // closed when all builds have joined

	merged  []*merged
	entries []client.CacheOptionsEntry
}

// perCache is the number of builds for whose caches a pool has one more cache, where one is not enough.
const perCache = 4

// NewPool is for a number of builds, each of which must join: see [Joins].
func NewPool(builds int) *Pool {
	p := &Pool{left: builds, full: make(chan struct{})}
	for range (builds + perCache - 1) / perCache {
		p.merged = append(p.merged, &merged{done: make(chan struct{})})
	}
	return p
}

// join are the imports of a build. It does not wait for the others.
func (p *Pool) join(ctx context.Context, r *Reads) (all []imports) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads = append(p.reads, r)
	if p.left--; p.left == 0 {
		close(p.full)
	}
	if p.entries == nil {
		for _, m := range p.merged {
			p.entries = append(p.entries, r.offer(m))
		}
		go func() {
			defer crash.Catch()
			p.merge(context.WithoutCancel(ctx))
		}()
	}
	for i, m := range p.merged {
		all = append(all, imports{entry: p.entries[i], merged: m})
	}
	return all
}

// merge makes one cache of those of all builds, or of those of few builds each. It waits until all builds have joined.
func (p *Pool) merge(ctx context.Context) {
	<-p.full
	var all []part
	groups := make([][]part, len(p.merged))
	for i, r := range p.reads {
		parts := r.parts()
		all = append(all, parts...)
		groups[i/perCache] = append(groups[i/perCache], parts...)
	}
	one := &merged{parts: slices.Clone(all)}
	if one.merge(ctx); one.left == 0 {
		groups = make([][]part, len(p.merged))
		groups[0] = all
	}
	for i, m := range p.merged {
		m.parts = groups[i]
		m.merge(ctx)
		close(m.done)
	}
}

// Joins reports whether a build with these caches and scopes joins a pool: it has something to read.
func Joins(caches []backends.Backend, scopes scope.Plan) bool {
	return len(scopes.Read) > 0 && len(caches) > 0
}

// owns reports whether a source is one of this build's.
func (r *Reads) owns(s *source) bool { return slices.Contains(r.sources, s) }
