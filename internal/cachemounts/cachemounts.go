// Package cachemounts keeps what steps leave in RUN --mount=type=cache beside the layers of a cache, in the same
// scopes, and puts it into the mounts of an empty builder before a step that needs them runs.
//
//	mounts := cachemounts.New(cachemounts.Options{Auto: true, Plan: plan, Caches: caches, Program: program})
//	mounts.Pass(ctx, client, result, graph) // evaluates the build's result, and restores mounts on the way
//	mounts.Save(ctx, builder)               // what the steps that ran have changed
//	outcomes := mounts.Wait()
//
// A step that uses a mount is stopped as it begins, if a scope has content for the mount: see [Mounts.Pass]. Files
// are packed and unpacked by a program in the builder ([mountpack]), in a container that has the same mount.
package cachemounts

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	gw "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/llbgraph"
	"github.com/warmlayer/warmlayer/scope"
)

// Options say which mounts are kept, and where.
type Options struct {
	Auto  bool             // all mounts of steps that run
	Sizes map[string]int64 // or these ids, each with the limit of its content in bytes; 0: none of its own
	Total int64            // bytes that all mounts of a scope may take in a store

	Plan    scope.Plan
	Caches  []backends.Backend
	Record  backends.Record
	Timeout time.Duration // of the restores before a step, and of the saves

	// Program is the program for the builder; see [mountprogram.For].
	Program func() ([]byte, error)
	// Fresh says that the builder has nothing of earlier builds, so that what a stopped step has left in a mount can
	// be removed.
	Fresh bool
}

// Builder makes requests beside the build.
type Builder interface {
	// Ask calls a function with a client of BuildKit's gateway, which answers until the function returns.
	Ask(ctx context.Context, ask func(context.Context, gw.Client)) error
	// Time begins a part of the run for its timings, and returns the function that ends it.
	Time(name string) (end func())
}

// Outcome is what happened to one mount.
type Outcome struct {
	ID       string // as the Dockerfile has it
	Restored Moved  // From is "" where it was not
	Saved    Moved  // From is "" where it was not
	Why      string // why a step used it and it was not saved; "": it was saved, or there was nothing to save
	Err      error  // of a restore or a save that failed
}

// Moved is a restore or a save.
type Moved struct {
	Scope   scope.Name // that it was restored from or saved to
	Bytes   int64      // that the store sent or got
	Files   int        // files, directories and links: all of a restore, those that changed of a save
	Seconds float64
}

// Mounts are the cache mounts of one build. A nil *Mounts keeps none. Its methods may be called concurrently.
type Mounts struct {
	Options
	stored *stored

	mu     sync.Mutex
	graph  llbgraph.Graph
	mounts map[string]*mount          // by [llbgraph.CacheMount].Key, of all steps
	steps  map[digest.Digest][]*mount // the wanted mounts of each step
	gates  map[digest.Digest]*gate    // of steps that have wanted mounts, and are not known to be cached or to run
	busy   map[digest.Digest]bool     // other steps that run
	ran    map[digest.Digest]bool     // steps with wanted mounts that ran to their end
	trips  chan struct{}              // capacity 1: a gate is held
	ready  []events                   // of steps that go on, to be passed on
	hushed bool                       // steps that are cancelled were stopped by us
	begun  bool                       // the saves
	saving sync.WaitGroup
}

// mount is one mount, and what is known of it. Its fields besides use are only written by one goroutine at a time.
type mount struct {
	use     llbgraph.CacheMount
	limit   int64 // of its content in bytes; 0: mountpack's
	settled bool  // it has been restored, or will not be
	restore *restored
	late    bool // a step that uses it ended before it could be stopped
	outcome Outcome
}

// restored is what a restore has put into a mount.
type restored struct {
	index []byte
	from  *entry
	clock int64
	at    time.Time // when that was saved
}

// New prepares the mounts of a build. Nothing is read before it is known that steps have mounts.
func New(o Options) *Mounts {
	return &Mounts{
		Options: o, stored: newStored(o), mounts: map[string]*mount{}, busy: map[digest.Digest]bool{}, ran: map[digest.Digest]bool{},
		trips: make(chan struct{}, 1),
	}
}

// plan finds the wanted mounts of the steps, and tells whether there are any.
func (m *Mounts) plan(graph llbgraph.Graph) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.graph, m.steps, m.gates, m.busy = graph, map[digest.Digest][]*mount{}, map[digest.Digest]*gate{}, map[digest.Digest]bool{}
	for _, step := range graph.Steps() {
		for _, use := range graph.CacheMounts(step.Digest) {
			limit, named := m.Sizes[use.Name()]
			if !m.Auto && !named {
				continue
			}
			known := m.mounts[use.Key()]
			if known == nil {
				known = &mount{use: use, limit: limit, outcome: Outcome{ID: use.Name()}}
				m.mounts[use.Key()] = known
			}
			m.steps[step.Digest] = append(m.steps[step.Digest], known)
		}
		if len(m.steps[step.Digest]) > 0 {
			m.gates[step.Digest] = newGate()
		}
	}
	return len(m.gates) > 0
}

// Wait waits for the saves, and returns what happened to the mounts of steps that ran, by their ids.
func (m *Mounts) Wait() []Outcome {
	if m == nil {
		return nil
	}
	m.saving.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Outcome
	for _, mount := range m.mounts {
		o := mount.outcome
		if o.Restored != (Moved{}) || o.Saved != (Moved{}) || o.Why != "" || o.Err != nil {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b Outcome) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Warning is one sentence about all that failed; "": nothing did.
func Warning(all []Outcome) string {
	var said []string
	for _, o := range all {
		if o.Err != nil {
			said = append(said, fmt.Sprintf("%s: %v", o.ID, o.Err))
		}
	}
	if len(said) == 0 {
		return ""
	}
	return "cache mounts: " + strings.Join(said, "; ")
}
