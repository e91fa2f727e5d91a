package cacheplan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/refusal"
)

// State is the outcome of a cache source.
type State string

// A source is loaded when its cache was there and complete, absent when there was certainly
// no cache, and failed in every other case.
const (
	Loaded State = "loaded"
	Absent State = "absent"
	Failed State = "failed"
)

// Source is a cache source of a build, with its outcome.
type Source struct {
	Cache string // "registry ghcr.io/o/app"
	Name  string // the scope's; "" for an entry of cache-from
	Why   string // why the scope is read: "default branch"
	State State
	Hits  int   // steps that were cached in the build that wrote the scope last
	Steps int   // all steps of that build; 0: unknown
	Bytes int64 // of the layers in its cache; 0: not known
	Used  *int  // steps of this build that it has; nil: not known. Steps that several sources have count for each
	Err   error // why it failed or is absent, or, when loaded, why not all of it was used; nil for none
}

// Faulty reports whether something is wrong with the source: it failed, or not all of it could
// be used.
func (s Source) Faulty() bool { return s.State == Failed || s.State == Loaded && s.Err != nil }

// Reads are the cache sources of one build, and the only writer of their outcomes. A build
// asks for the imports, reports what it observed of the attempt, leaves out the sources that
// are at fault, and asks again. The methods must not be called concurrently.
type Reads struct {
	gateway *gateway.Gateway          // nil on a remote builder
	pool    *Pool                     // of the first attempt; nil: none
	early   bool                      // the first attempt does not wait for the readings
	lines   []*source                 // the entries of cache-from
	settle  func()                    // waits for the readings, and sets the next two
	settled atomic.Pointer[time.Time] // when that was; nil before

	sources []*source // of the next attempt; set by settle
	leftOut []*source // at fault for a failed attempt
	imports []imports // of the current attempt
	made    *made     // what this build exported
	failed  int       // attempts that sources were at fault for
	known   int       // blobs of the gateway that were lost in former attempts
	pushed  []string  // repositories that the image is pushed to
}

// source is a cache source under way.
type source struct {
	cache   string           // for people: "registry ghcr.io/o/app"
	reading backends.Reading // the zero value for an entry of cache-from
	entry   client.CacheOptionsEntry
	own     bool                   // an entry of cache-from, which BuildKit alone reads
	lost    map[digest.Digest]bool // its blobs that are known to be lost
	why     error                  // why they are; nil where none is
	state   State
	err     error
}

// imports is one entry that BuildKit is told to import, and the sources that it reads by it.
type imports struct {
	entry        client.CacheOptionsEntry
	sources      []*source // of a merged cache: set by verify
	allOrNothing bool      // BuildKit reads all of the sources or none
	merged       *merged   // the sources as one cache, where the gateway merges them
	verified     bool      // the sources are those in merged
}

// newReads takes the entries of cache-from, and later the readings of the scopes.
//
// On a managed builder the first attempt begins before these are known, unless a lone cache in a registry
// might be imported natively.
func newReads(request Request) *Reads {
	r := &Reads{gateway: request.Gateway, pool: request.Pool, pushed: request.Pushed, made: &made{}}
	r.early = r.gateway != nil && Joins(request.Caches, request.Scopes) && (request.Pool != nil || !slices.ContainsFunc(request.Caches, r.mounts))
	r.settle = sync.OnceFunc(func() { r.take(request.Await().Readings) })
	for i, line := range request.From {
		s := &source{cache: line.String(), entry: request.verbatim(line), own: true, state: Absent}
		if request.Unreadable != nil {
			s.fail(request.Unreadable[i])
		}
		r.lines = append(r.lines, s)
	}
	return r
}

// take makes a source of each reading, before those of cache-from.
func (r *Reads) take(readings []backends.Reading) {
	for _, reading := range readings {
		s := &source{cache: reading.From.String(), reading: reading, state: Loaded}
		s.fail(reading.Err)
		r.sources = append(r.sources, s)
	}
	r.sources = append(r.sources, r.lines...)
	now := time.Now()
	r.settled.Store(&now)
}

// Settled is when the readings of the scopes were known; the zero time: they are not yet. It may be
// called at any time.
func (r *Reads) Settled() time.Time {
	if at := r.settled.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// fail records why a source cannot be used. A nil error changes nothing.
func (s *source) fail(err error) {
	if err == nil {
		return
	}
	s.state, s.err = Failed, err
	if errors.Is(err, backends.ErrAbsent) {
		s.state = Absent
	}
	s.reading.Manifest, s.reading.Config = backends.Manifest{}, nil
}

// verify waits until it is known whether the cache that was read is complete, and checks
// that BuildKit would import it in good time and without harm.
func (s *source) verify() {
	if s.state == Loaded {
		s.fail(s.reading.Verify())
	}
	if s.state != Loaded {
		return
	}
	if _, err := cachegraph.Parse(s.reading.Config, s.reading.Manifest.Layers); cachegraph.Harmful(err) {
		s.fail(unreadable(err))
	}
}

func unreadable(err error) error { return fmt.Errorf("its cache config cannot be read: %w", err) }

// Imports are the entries that BuildKit is told to import in the attempt that begins.
//
// A managed builder gets everything that was loaded as one cache through the gateway, which
// answers when all sources are read and verified, without further requests for what was read. In the first
// attempt this entry does not wait for the readings, and is that of an empty cache where nothing was loaded.
// Only a lone cache in a registry stays where it is when its layers mount across the registry's repositories.
// A remote builder gets native entries. It may reach stores that this process does not, so only the sources
// that are certainly absent or incomplete are left out, and directories, which BuildKit's client reads in this
// process. Entries of cache-from are passed on.
func (r *Reads) Imports(ctx context.Context) []client.CacheOptionsEntry {
	r.imports = nil
	early, lines := r.early && r.failed == 0, r.lines
	if !early {
		r.settle()
		lines = r.sources
	}
	for _, s := range lines {
		if s.own && s.state != Failed {
			r.imports = append(r.imports, imports{entry: s.entry, sources: []*source{s}})
		}
	}
	switch {
	case r.gateway == nil:
		r.imports = append(r.imports, nativeImports(r.sources)...)
	case early && r.pool != nil:
		r.imports = append(r.imports, r.pool.join(ctx, r)...)
	case early:
		m := mergeParts(ctx, r.parts)
		r.imports = append(r.imports, imports{entry: r.offer(m), merged: m})
	default:
		r.imports = append(r.imports, r.throughGateway(ctx)...)
	}
	var entries []client.CacheOptionsEntry
	for _, i := range r.imports {
		entries = append(entries, i.entry)
	}
	return entries
}

// loaded are the sources of scopes that were loaded. It waits for the readings.
func (r *Reads) loaded() (loaded []*source) {
	r.settle()
	for _, s := range r.sources {
		if !s.own && s.state == Loaded {
			loaded = append(loaded, s)
		}
	}
	return loaded
}

// parts are what the gateway merges. It waits for the readings.
func (r *Reads) parts() (parts []part) {
	for _, s := range r.loaded() {
		parts = append(parts, part{source: s, reading: s.reading, lost: s.lost, why: s.why})
	}
	return parts
}

// offer is the entry of a merged cache, which the gateway serves.
func (r *Reads) offer(m *merged) client.CacheOptionsEntry {
	return client.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": r.gateway.Offer(m.wait)}}
}

// throughGateway is the import of all loaded sources on a managed builder. A lone cache in a
// registry that has lost blobs goes through the gateway too, without the results that need them.
func (r *Reads) throughGateway(ctx context.Context) []imports {
	loaded := r.loaded()
	if len(loaded) == 0 {
		return nil
	}
	lone := len(loaded) == 1 && r.mounts(loaded[0].reading.From)
	if s := loaded[0]; lone && len(s.lost) == 0 && !errors.Is(s.reading.Verify(), backends.ErrGone) {
		if s.verify(); s.state != Loaded {
			return nil
		}
		return []imports{nativeImport(s)}
	}
	one := imports{merged: mergeParts(ctx, r.parts)}
	if lone {
		// Its blobs are verified, so there is nothing to wait for.
		if one.verify(r); len(one.sources) == 0 {
			return nil
		}
	}
	one.entry = r.offer(one.merged)
	return []imports{one}
}

// verify waits until it is known which of the merged sources are in the cache that BuildKit
// got, and records why the others are not, or not as a whole. A pool has sources of other builds, too.
func (i *imports) verify(r *Reads) {
	if i.merged == nil || i.verified {
		return
	}
	i.verified = true
	<-i.merged.done
	for _, p := range i.merged.parts {
		s := p.source
		if !r.owns(s) {
			continue
		}
		if s.fail(cmp.Or(p.err, i.merged.err)); s.state == Loaded {
			s.lost, s.err = p.lost, p.reduced
			i.sources = append(i.sources, s)
		}
	}
}

// Observe takes what was observed of the attempt that ended, and returns the sources that
// are at fault for its error: none when the build may not be tried again.
func (r *Reads) Observe(a Attempt) []Fault {
	for n := range r.imports {
		r.imports[n].verify(r)
		if end := a.end(n); end.Ended {
			for _, s := range r.imports[n].sources {
				s.ended(end)
			}
		}
	}
	if a.Err == nil {
		r.recovered(a.Recovered)
	}
	if r.gateway != nil {
		all := r.gateway.Lost()
		a.Lost, a.why = append(slices.Clone(a.Lost), all[r.known:]...), r.gateway.Why
		r.known = len(all)
	}
	return faults(a, r.imports)
}

// recovered takes the errors of steps that BuildKit ran itself, because it could not get their layers.
// A source that has such a layer was not used as a whole.
func (r *Reads) recovered(errs []string) {
	for _, text := range errs {
		wanted := blobsIn(errors.New(text), nil)
		for _, i := range r.imports {
			for _, s := range i.sources {
				if lost := s.holds(wanted); len(lost) > 0 && s.state == Loaded && s.err == nil {
					s.err = s.advise(fmt.Errorf("blob %s was lost: %s", lost[0], text), lost)
				}
			}
		}
	}
}

// ended takes how the import of the source ended.
func (s *source) ended(end ImportEnd) {
	reduced := s.err
	if s.state, s.err = end.state(); s.state == Loaded {
		s.err = reduced
	}
}

// errFailedTwice is why a source that is not at fault is left out of a third attempt.
var errFailedTwice = errors.New("left out, because other sources broke the build twice")

// LeaveOut takes the sources that are at fault for a failed attempt, and leaves them out of the
// next one. After the first attempt a managed builder goes without the results that need the
// lost blobs, where these are known. After the second attempt all sources are left out.
func (r *Reads) LeaveOut(faults []Fault) {
	if len(faults) == 0 {
		return
	}
	r.failed++
	for _, f := range faults {
		f.source.reading.Doubt(f.lost)
		if r.failed == 1 && r.gateway != nil && f.reduce() {
			continue
		}
		r.leaveOut(f.source, f.Err)
	}
	for _, s := range slices.Clone(r.sources) {
		if r.failed > 1 && s.state == Loaded {
			r.leaveOut(s, errFailedTwice)
		}
	}
}

// used counts the steps of this build that a source has; nil where that is not known. A remote builder
// reads the caches itself, and has a cache of its own.
func (r *Reads) used(s *source) *int {
	cache, build := r.made.get()
	if cache == nil || r.gateway == nil || s.own || s.state != Loaded {
		return nil
	}
	whole, err := cachegraph.Parse(s.reading.Config, s.reading.Manifest.Layers)
	if err != nil {
		return nil
	}
	n, err := cachegraph.Common(*cache, build.Variant, build.Result, whole.Without(s.lost))
	if err != nil {
		return nil
	}
	return &n
}

func (r *Reads) leaveOut(s *source, err error) {
	s.state, s.err = Failed, err
	r.leftOut = append(r.leftOut, s)
	r.sources = slices.DeleteFunc(r.sources, func(other *source) bool { return s == other })
}

// reduce makes the source go without its lost blobs, and reports whether it can.
func (f Fault) reduce() bool {
	if len(f.lost) == 0 || f.source.own {
		return false
	}
	f.source.lost = maps.Clone(f.source.lost)
	if f.source.lost == nil {
		f.source.lost = map[digest.Digest]bool{}
	}
	for _, d := range f.lost {
		f.source.lost[d] = true
	}
	f.source.why = f.Err
	return true
}

// Outcomes are all sources with their outcomes, those that were left out last.
func (r *Reads) Outcomes() []Source {
	var out []Source
	r.settle()
	for _, s := range slices.Concat(r.sources, r.leftOut) {
		err := s.err
		if s.state != Absent {
			err = refusal.Explain(err)
		}
		if errors.Is(err, backends.ErrGone) {
			err = s.advise(err, nil)
		}
		out = append(out, Source{
			Cache: s.cache, Name: string(s.reading.Name), Why: s.reading.Why, State: s.state, Err: err,
			Hits: s.reading.Manifest.Record.Hits, Steps: s.reading.Manifest.Record.Steps, Used: r.used(s), Bytes: s.reading.Manifest.Bytes(),
		})
	}
	return out
}
