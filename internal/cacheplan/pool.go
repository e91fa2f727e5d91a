package cacheplan

import (
	"context"
	"slices"
	"sync"

	"github.com/moby/buildkit/client"
)

// Pool is the import that several builds on one managed builder have in common: all that any of them reads. BuildKit runs a step once
// for builds that have it in common, and then finds what follows it only in the caches of the build that came first (v0.34.2,
// solver/jobs.go, load).
type Pool struct {
	mu    sync.Mutex
	left  int // builds that have not joined
	reads []*Reads
	full  chan struct{} // closed when all builds have joined

	merged *merged
	entry  client.CacheOptionsEntry
}

// NewPool is for a number of builds, each of which must join: it has caches to read.
func NewPool(builds int) *Pool { return &Pool{left: builds, full: make(chan struct{})} }

// join is the import of a build. It does not wait for the others.
func (p *Pool) join(ctx context.Context, r *Reads) imports {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads = append(p.reads, r)
	if p.left--; p.left == 0 {
		close(p.full)
	}
	if p.merged == nil {
		p.merged = mergeParts(context.WithoutCancel(ctx), p.parts)
		p.entry = r.offer(p.merged)
	}
	return imports{entry: p.entry, merged: p.merged}
}

// parts are those of all builds. It waits until all have joined.
func (p *Pool) parts() (all []part) {
	<-p.full
	for _, r := range p.reads {
		all = append(all, r.parts()...)
	}
	return all
}

// reads reports whether a request has scopes to read, and so joins a pool.
func (r Request) reads() bool { return len(r.Scopes.Read) > 0 && len(r.Caches) > 0 }

// owns reports whether a source is one of this build's.
func (r *Reads) owns(s *source) bool { return slices.Contains(r.sources, s) }
