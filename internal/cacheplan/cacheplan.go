// Package cacheplan decides what BuildKit imports and exports, and determines the outcomes of both.
// It plans without I/O: backends has read the scopes, and a [Destination] uses the stores and the
// gateway only when it is committed.
//
// A build of feature/a on a managed builder, with a cache in a directory:
//
//	plan := cacheplan.New(cacheplan.Request{Caches: caches, Await: found, Scopes: scopes, Gateway: g})
//	plan.Reads.Imports(ctx)           // registry ref=127.0.0.1:41235/s0:scopes
//	plan.Destinations()[0].Entry      // registry ref=127.0.0.1:41235/d0:b-feature-a-951d42dc02dc7431,compression=zstd,…
//	plan.Reads.Observe(attempt)       // the sources at fault where the attempt failed
//	plan.Destinations()[0].Commit(…)  // the directory's index names the scope
//	plan.Reads.Outcomes()             // b-feature-a loaded, b-main absent
package cacheplan

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/scope"
)

// Request is the input of a plan.
type Request struct {
	Caches  []backends.Backend
	Scopes  scope.Plan
	Record  backends.Record // attached to every scope that is written, with time and result
	Variant string          // of the build among those of its scope; see [scope.Variant]
	Keep    Limits          // of what a scope keeps of former builds; the zero value: nothing

	// Await waits for what is found out about the caches, which goes on while the build begins; nil:
	// nothing is. It may be called several times, at the same time too.
	Await func() Found

	// From and To are the lines of cache-from and cache-to, which are passed to BuildKit as they are.
	From, To    []cachespec.Cache
	Unreadable  []error               // for each line of From why it must be left out, or nil; may be nil
	Environment cachespec.Environment // of the lines

	// Pushed are the repositories that the image is pushed to: "ghcr.io/o/app".
	Pushed []string

	// Timeout is the timeout of an export; 0: none. A store that accepts no data for half of it
	// fails, and the others have the rest of the time.
	Timeout time.Duration

	// Gateway is the gateway of a managed builder; nil for a remote builder, which gets native
	// entries.
	Gateway *gateway.Gateway

	// Pool is for one of several builds on a managed builder; nil: it is the only one.
	Pool *Pool
}

// Found is what is found out about the caches before they are used.
type Found struct {
	Readings []backends.Reading // of the caches' scopes
	Refused  map[string]error   // the repositories that no cache can be written to, and why: "ghcr.io/o/app"
}

// settled is a request with what was found.
type settled struct {
	Request
	Found
}

// Limits bound what a scope keeps of former builds. New sets JSON.
type Limits = cachegraph.Limits

// Plan has the entries that BuildKit gets for the caches of one build.
type Plan struct {
	Reads  *Reads
	Writes bool // there are destinations
	Inline bool // the image contains its cache
	Forced bool // a cache has the image's layers in another compression than the image
	Whole  bool // all caches that are read have the layers of every step (mode=max)

	destinations func() []Destination
}

// New plans the reads and the writes of a build. It does not wait for what is found out about the caches.
func New(r Request) Plan {
	if r.Await == nil {
		r.Await = func() Found { return Found{} }
	}
	if r.Keep.Variants > 0 {
		r.Keep.JSON = backends.MaxConfig
	}
	reads := newReads(r)
	caches := r.Scopes.Write != "" && len(r.Caches) > 0
	inImage := func(line cachespec.Cache) bool { return line.Config.InImage() }
	return Plan{
		Reads:        reads,
		Writes:       caches || slices.ContainsFunc(r.To, func(line cachespec.Cache) bool { return !inImage(line) }),
		Inline:       caches && slices.ContainsFunc(r.Caches, tagsImage) || slices.ContainsFunc(r.To, inImage),
		Forced:       backends.Forced(r.Caches),
		Whole:        len(r.From) == 0 && backends.Whole(r.Caches),
		destinations: sync.OnceValue(func() []Destination { return settled{r, r.Await()}.destinations(reads.made) }),
	}
}

// tagsImage tells whether a cache is in the image.
func tagsImage(cache backends.Backend) bool {
	_, in := cache.(backends.ImageTagged)
	return in
}

// Destinations are where the cache is written. It waits for what is found out about the caches.
func (p Plan) Destinations() []Destination { return p.destinations() }

// AllSteps are the attributes of the export that has the layers of all steps; nil: there is none. It waits for what
// is found out about the caches.
func (p Plan) AllSteps() map[string]string {
	for _, d := range p.Destinations() {
		if d.Refused == nil && d.Broken == nil && d.Entry.Attrs["mode"] == "max" {
			return d.Entry.Attrs
		}
	}
	return nil
}

func (r settled) destinations(made *made) []Destination {
	var all []Destination
	if r.Scopes.Write != "" {
		all = r.ofCaches(made)
	}
	for _, line := range r.To {
		if line.Config.InImage() {
			continue
		}
		entry := r.verbatim(line)
		delete(entry.Attrs, "ignore-error") // with it BuildKit would drop the error, which the report shows
		cache := backends.Open([]cachespec.Cache{line}, nil)[0]
		all = append(all, Destination{
			Caches: []Cache{{Name: line.String(), Strict: line.Config.Strict()}}, Entry: entry, Broken: r.broken(line.Config),
			prepare: r.mend(cache), locking: lockOf(cache),
		})
	}
	return all
}

// verbatim is the entry of a line of cache-from or cache-to.
func (r Request) verbatim(line cachespec.Cache) client.CacheOptionsEntry {
	return client.CacheOptionsEntry{Type: line.Type, Attrs: line.Config.Native(r.Environment)}
}

// ofCaches are the destinations of all caches. Caches that receive the same export through the
// gateway share a destination.
func (r settled) ofCaches(made *made) (all []Destination) {
	var groups []*group
	for _, cache := range r.Caches {
		w := written{scope: r.Scopes.Write, record: r.Record, variant: r.Variant, keep: r.Keep, made: made}
		w.own, w.others = r.readingsOf(cache)
		d := Destination{Name: r.Scopes.Write, Caches: []Cache{{Name: cache.String(), Strict: cache.Strict()}}, Broken: r.broken(cache)}
		if limited, ok := cache.(backends.Limited); ok && limited.Refuses(r.Scopes) != "" {
			d.Refused = errors.New(limited.Refuses(r.Scopes))
			all = append(all, d)
			continue
		}
		image, inImage := cache.(backends.ImageTagged)
		through, isThrough := cache.(backends.GatewayWritten)
		switch {
		case inImage:
			d.target = tagged{w, image}
		case isThrough && r.Gateway != nil:
			groups = join(groups, through, d.Caches[0], w)
			continue
		default:
			d.Entry, d.Answers = cache.Exports(r.Scopes)[0], cache.NativeOCI()
			w.options = cache.Options() // without location and credentials
			store := cache.Scopes()
			if isThrough {
				store = through.Destination()
			}
			n := native{written: w, store: store}
			if registry, ok := cache.(backends.Untagged); ok && r.Keep.Variants > 0 && w.reached() {
				n.untagged = true
				d.Entry.Attrs["ref"], d.Entry.Attrs[giveBack] = registry.Untagged(), "true"
			}
			d.target, d.prepare, d.locking = n, r.mend(cache), lockOf(cache)
		}
		all = append(all, d)
	}
	for _, g := range groups {
		all = append(all, g.destination(r))
	}
	return all
}

// mend removes what is damaged in a cache before BuildKit writes it.
func (r settled) mend(cache backends.Backend) func(context.Context, []digest.Digest) error {
	through, ok := cache.(backends.GatewayWritten)
	if !ok {
		return nil
	}
	return func(ctx context.Context, lost []digest.Digest) error {
		for _, reading := range r.Readings {
			reading.Doubt(slices.DeleteFunc(slices.Clone(lost), func(d digest.Digest) bool {
				return !slices.ContainsFunc(reading.Manifest.Layers, func(l ocispecs.Descriptor) bool { return l.Digest == d })
			}))
		}
		return backends.Mend(ctx, through.Destination(), r.Readings, cache)
	}
}

// lockOf is a cache's lock that BuildKit's own exporter takes; nil where there is none.
func lockOf(cache backends.Backend) backends.Locking {
	through, ok := cache.(backends.GatewayWritten)
	if !ok {
		return nil
	}
	locking, _ := through.Destination().(backends.Locking)
	return locking
}

// broken says why nothing can be written to a cache; nil where that is not known.
func (r settled) broken(cache any) error {
	pushed, ok := cache.(cachespec.Pushed)
	if !ok {
		return nil
	}
	repository, _ := pushed.PushedTo()
	return r.Refused[repository]
}

// readingsOf are the readings of a cache: that of the scope that is written, nil where there is none, and
// those of other scopes.
func (r settled) readingsOf(cache backends.Backend) (own *backends.Reading, others []*backends.Reading) {
	if through, ok := cache.(backends.GatewayWritten); ok && !through.InPlace() {
		return nil, nil // of another location than the one that is written
	}
	for i, reading := range r.Readings {
		switch {
		case reading.From != cache:
		case reading.Name == r.Scopes.Write:
			own = &r.Readings[i]
		default:
			others = append(others, &r.Readings[i])
		}
	}
	return own, others
}

// expected are the blobs of all readings. Most blobs of an export are among them.
func (r settled) expected() []ocispecs.Descriptor {
	var all []ocispecs.Descriptor
	known := map[digest.Digest]bool{}
	for _, reading := range r.Readings {
		for _, layer := range reading.Manifest.Layers {
			if !known[layer.Digest] {
				known[layer.Digest] = true
				all = append(all, layer)
			}
		}
	}
	return all
}
