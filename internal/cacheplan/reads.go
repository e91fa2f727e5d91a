package cacheplan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/refusal"
	"github.com/warmlayer/warmlayer/scope"
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
	Err   error // why it failed or is absent; nil when loaded
}

// Reads are the cache sources of one build, and the only writer of their outcomes. A build
// asks for the imports, reports what it observed of the attempt, leaves out the sources that
// are at fault, and asks again. The methods must not be called concurrently.
type Reads struct {
	gateway *gateway.Gateway // nil on a remote builder
	sources []*source
	leftOut []*source // at fault for a failed attempt
	imports []imports // of the current attempt
}

// source is a cache source under way.
type source struct {
	cache   string           // for people: "registry ghcr.io/o/app"
	reading backends.Reading // the zero value for an entry of cache-from
	entry   client.CacheOptionsEntry
	own     bool // an entry of cache-from, which BuildKit alone reads
	state   State
	err     error
}

// imports is one entry that BuildKit is told to import, and the sources that it reads by it.
type imports struct {
	entry        client.CacheOptionsEntry
	sources      []*source
	allOrNothing bool    // BuildKit reads all of the sources or none
	merged       *merged // the sources as one cache, where the gateway merges them
}

// newReads takes the readings of the scopes, and the entries of cache-from.
func newReads(request Request) *Reads {
	r := &Reads{gateway: request.Gateway}
	for _, reading := range request.Readings {
		s := &source{cache: reading.From.String(), reading: reading, state: Loaded}
		s.fail(reading.Err)
		r.sources = append(r.sources, s)
	}
	for _, line := range request.From {
		r.sources = append(r.sources, &source{cache: line.String(), entry: request.verbatim(line), own: true, state: Absent})
	}
	return r
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
// that BuildKit would import it in good time.
func (s *source) verify() {
	if s.state == Loaded {
		s.fail(s.reading.Verify())
	}
	if s.state != Loaded {
		return
	}
	if _, err := cachegraph.Parse(s.reading.Config, s.reading.Manifest.Layers); errors.Is(err, cachegraph.ErrTooLarge) {
		s.fail(unreadable(err))
	}
}

func unreadable(err error) error { return fmt.Errorf("its cache config cannot be read: %w", err) }

// Imports are the entries that BuildKit is told to import in the attempt that begins.
//
// A managed builder gets everything that was loaded as one cache through the gateway, which
// answers when all sources are verified. Only a lone cache in a registry stays where it is,
// so that its layers mount across the registry's repositories. A remote builder gets native
// entries. It may reach stores that are out of our reach, so only the sources that are
// certainly absent or incomplete are left out. Entries of cache-from are passed on.
func (r *Reads) Imports(ctx context.Context) []client.CacheOptionsEntry {
	r.imports = nil
	var loaded []*source
	for _, s := range r.sources {
		switch {
		case s.own && s.state != Failed:
			r.imports = append(r.imports, imports{entry: s.entry, sources: []*source{s}})
		case !s.own && s.state == Loaded:
			loaded = append(loaded, s)
		}
	}
	if r.gateway == nil {
		r.imports = append(r.imports, nativeImports(r.sources)...)
	} else {
		r.imports = append(r.imports, r.throughGateway(ctx, loaded)...)
	}
	var entries []client.CacheOptionsEntry
	for _, i := range r.imports {
		entries = append(entries, i.entry)
	}
	return entries
}

// throughGateway is the import of all loaded sources on a managed builder.
func (r *Reads) throughGateway(ctx context.Context, loaded []*source) []imports {
	if len(loaded) == 0 {
		return nil
	}
	if _, through := loaded[0].reading.From.(backends.GatewayWritten); len(loaded) == 1 && !through {
		if loaded[0].verify(); loaded[0].state != Loaded {
			return nil
		}
		return []imports{nativeImport(loaded[0])}
	}
	readings := make([]backends.Reading, len(loaded))
	for i, s := range loaded {
		readings[i] = s.reading
	}
	m := mergeReadings(ctx, readings)
	entry := client.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": r.gateway.Offer(m.wait)}}
	return []imports{{entry: entry, sources: loaded, merged: m}}
}

// nativeImport is the import of a source by its cache's own entry.
func nativeImport(s *source) imports {
	one := scope.Plan{Read: []scope.Source{s.reading.Source}}
	return imports{entry: s.reading.From.Imports(one)[0], sources: []*source{s}, allOrNothing: true}
}

// nativeImports are the imports of sources that BuildKit reads itself. One entry may stand for
// several scopes of a cache. BuildKit then reads all of them or none, so an entry with a scope
// that is incomplete, or too large, is left out.
func nativeImports(sources []*source) []imports {
	var all, incomplete []imports
	for _, s := range sources {
		if s.own {
			continue
		}
		if s.verify(); s.state == Absent {
			continue
		}
		one := nativeImport(s)
		if errors.Is(s.err, backends.ErrGone) || errors.Is(s.err, cachegraph.ErrTooLarge) {
			incomplete = append(incomplete, one)
		} else if n := slices.IndexFunc(all, one.sameEntry); n >= 0 {
			all[n].sources = append(all[n].sources, s)
		} else {
			all = append(all, one)
		}
	}
	return slices.DeleteFunc(all, func(i imports) bool { return slices.ContainsFunc(incomplete, i.sameEntry) })
}

func (i imports) sameEntry(other imports) bool {
	return i.entry.Type == other.entry.Type && maps.Equal(i.entry.Attrs, other.entry.Attrs)
}

// verify waits until it is known which of the merged sources are in the cache that BuildKit
// got, and records why the others are not.
func (i *imports) verify() {
	if i.merged == nil {
		return
	}
	<-i.merged.done
	for n, s := range i.sources {
		s.fail(cmp.Or(i.merged.errs[n], i.merged.err))
	}
	i.sources = slices.DeleteFunc(slices.Clone(i.sources), func(s *source) bool { return s.state != Loaded })
}

// Observe takes what was observed of the attempt that ended, and returns the sources that
// are at fault for its error: none when the build may not be tried again.
func (r *Reads) Observe(a Attempt) []Fault {
	for n := range r.imports {
		r.imports[n].verify()
		if end := a.end(n); end.Ended {
			for _, s := range r.imports[n].sources {
				s.state, s.err = end.state()
			}
		}
	}
	if r.gateway != nil {
		a.Lost = append(slices.Clone(a.Lost), r.gateway.Lost()...)
	}
	return faults(a, r.imports)
}

// LeaveOut marks sources that are at fault as failed, and imports them no more.
func (r *Reads) LeaveOut(faults []Fault) {
	for _, f := range faults {
		f.source.state, f.source.err = Failed, f.Err
		r.leftOut = append(r.leftOut, f.source)
	}
	r.sources = slices.DeleteFunc(r.sources, func(s *source) bool { return slices.Contains(r.leftOut, s) })
}

// Outcomes are all sources with their outcomes, those that were left out last.
func (r *Reads) Outcomes() []Source {
	var out []Source
	for _, s := range slices.Concat(r.sources, r.leftOut) {
		err := s.err
		if s.state == Failed {
			err = refusal.Explain(err)
		}
		out = append(out, Source{Cache: s.cache, Name: string(s.reading.Name), Why: s.reading.Why, State: s.state, Err: err})
	}
	return out
}
