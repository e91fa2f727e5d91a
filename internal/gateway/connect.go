package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

// Caches is how BuildKit reaches the caches of a plan.
type Caches struct {
	Destinations []backends.Destination
	Inline       bool     // the image carries its cache
	Forced       bool     // a cache holds the image's layers in another compression than the image
	gateway      *Gateway // nil for a remote builder
}

// Import is one cache that BuildKit is told to import, and the sources in it.
type Import struct {
	Entry   client.CacheOptionsEntry
	Sources []*backends.Source
	Joint   bool // BuildKit reads all of the sources or none

	merged *merged // nil unless it is one of the gateway's
}

// Settle waits until it is known which of the sources are whole, marks the others, and
// leaves them out. BuildKit may import it before.
func (i *Import) Settle() {
	if i.merged != nil {
		i.Sources = i.merged.settle()
	}
}

// Connect decides how BuildKit reaches each cache. With a gateway, which only a
// daemon of ours reaches, Gated caches are written through it. Without one (nil) all
// entries are native. The record is completed with what was exported, and attached
// to every scope that is written; sources are what was read of the caches' scopes.
func Connect(caches []backends.Backend, sources []backends.Source, plan scope.Plan, record backends.Record, g *Gateway) Caches {
	c := connector{plan: plan, record: record, gateway: g, own: map[backends.Backend]backends.Source{}}
	out := Caches{gateway: g, Forced: backends.Forced(caches)}
	for _, s := range sources {
		for _, layer := range s.Manifest.Layers {
			if !slices.Contains(c.expected, layer.Digest) {
				c.expected = append(c.expected, layer.Digest)
			}
		}
		if gated, ok := s.From.(backends.Gated); ok && !gated.InPlace() {
			continue // what was read says nothing of the place that is written
		}
		if s.Name == plan.Write {
			c.own[s.From] = s
		}
	}
	if plan.Write == "" {
		return out
	}
	var groups []*group
	for _, cache := range caches {
		if d, refused := c.refused(cache); refused {
			out.Destinations = append(out.Destinations, d)
			continue
		}
		switch cache := cache.(type) {
		case *backends.Inline:
			out.Inline = true
			out.Destinations = append(out.Destinations, c.inline(cache))
		case backends.Gated:
			if g != nil {
				groups = join(groups, cache)
				continue
			}
			out.Destinations = append(out.Destinations, c.native(cache))
		case backends.Keeper:
			out.Destinations = append(out.Destinations, c.native(cache))
		}
	}
	for _, group := range groups {
		out.Destinations = append(out.Destinations, c.gated(group))
	}
	return out
}

// Imports are what BuildKit is to import of the sources.
// A daemon of ours gets all that was loaded as one cache through the gateway, which hands
// it out once the sources are settled; only a lone cache in a registry stays where it is,
// so that its layers mount across the registry's repositories. A remote builder gets native
// entries, and may reach what we cannot, so that only what is certainly absent, or certainly
// not whole, is left out. Entries of the user's own are passed on.
func (c Caches) Imports(ctx context.Context, sources []backends.Source) []Import {
	var imports []Import
	var loaded []*backends.Source
	for i := range sources {
		s := &sources[i]
		switch {
		case s.From == nil && s.State != backends.Failed:
			imports = append(imports, Import{Entry: s.Entry, Sources: []*backends.Source{s}})
		case s.From != nil && s.State == backends.Loaded:
			loaded = append(loaded, s)
		}
	}
	if c.gateway == nil {
		return append(imports, natives(sources)...)
	}
	if len(loaded) == 0 {
		return imports
	}
	if _, gated := loaded[0].From.(backends.Gated); len(loaded) == 1 && !gated {
		if loaded[0].Settle(); loaded[0].State == backends.Loaded {
			imports = append(imports, native(loaded[0]))
		}
		return imports
	}
	m := merge(ctx, loaded)
	entry := client.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": c.gateway.addSource(m)}}
	return append(imports, Import{Entry: entry, Sources: loaded, merged: m})
}

// native is the source's own entry.
func native(s *backends.Source) Import {
	one := scope.Plan{Read: []scope.Source{s.Source}}
	return Import{Entry: s.From.Imports(one)[0], Sources: []*backends.Source{s}, Joint: true}
}

// natives are the entries of sources that BuildKit reads itself. One entry may stand for
// several of a cache's scopes, and then BuildKit reads all or none of them.
func natives(sources []backends.Source) []Import {
	var imports, spoilt []Import
	for i := range sources {
		s := &sources[i]
		if s.Settle(); s.From == nil || s.State == backends.Absent {
			continue
		}
		one := native(s)
		if errors.Is(s.Err, backends.ErrGone) {
			spoilt = append(spoilt, one)
		} else if n := slices.IndexFunc(imports, one.same); n >= 0 {
			imports[n].Sources = append(imports[n].Sources, s)
		} else {
			imports = append(imports, one)
		}
	}
	return slices.DeleteFunc(imports, func(i Import) bool { return slices.ContainsFunc(spoilt, i.same) })
}

func (i Import) same(other Import) bool {
	return i.Entry.Type == other.Entry.Type && maps.Equal(i.Entry.Attrs, other.Entry.Attrs)
}

type connector struct {
	plan    scope.Plan
	record  backends.Record
	gateway *Gateway
	own     map[backends.Backend]backends.Source // each cache's scope that is written, as it was read there

	expected []digest.Digest // the blobs of all that was loaded
}

// group is several caches that take the same export.
type group struct {
	options map[string]string
	caches  []backends.Gated
}

// refused is the destination of a cache that must not be written.
func (c *connector) refused(cache backends.Backend) (d backends.Destination, refused bool) {
	limited, ok := cache.(backends.Limited)
	if !ok {
		return d, false
	}
	why := limited.Refuses(c.plan)
	return backends.Destination{
		Name: c.plan.Write, Caches: []string{cache.String()}, Strict: []bool{cache.Strict()}, Refused: errors.New(why),
	}, why != ""
}

// join adds a cache to the group with its export options, or begins one.
func join(groups []*group, cache backends.Gated) []*group {
	for _, g := range groups {
		if maps.Equal(g.options, cache.Options()) {
			g.caches = append(g.caches, cache)
			return groups
		}
	}
	return append(groups, &group{options: cache.Options(), caches: []backends.Gated{cache}})
}

// gated is the destination of a group: one upload from BuildKit for all of its stores.
func (c *connector) gated(g *group) backends.Destination {
	stores := make([]backends.Store, len(g.caches))
	out := backends.Destination{Name: c.plan.Write}
	for i, cache := range g.caches {
		stores[i] = cache.Destination()
		out.Caches = append(out.Caches, cache.String())
		out.Strict = append(out.Strict, cache.Strict())
	}
	d, repo := c.gateway.addDestination(stores, c.expected)
	attrs := maps.Clone(g.options)
	attrs["ref"] = fmt.Sprintf("%s:%s", repo, c.plan.Write)
	out.Entry = client.CacheOptionsEntry{Type: "registry", Attrs: attrs}
	out.Unchanged = func(e backends.Exported) bool {
		for _, cache := range g.caches {
			if !c.unchanged(cache, g.options, e) {
				return false
			}
		}
		return true
	}
	out.Commit = func(ctx context.Context, e backends.Exported) []error {
		records := make([]backends.Record, len(stores))
		for i := range records {
			records[i] = c.written(g.options, e)
		}
		return d.commit(ctx, c.plan.Write, records)
	}
	return out
}

// native is a destination that BuildKit writes to itself. The record is attached
// afterwards, unless another build has replaced the cache since.
func (c *connector) native(cache backends.Keeper) backends.Destination {
	entry := cache.Exports(c.plan)[0]
	options := maps.Clone(entry.Attrs)
	if gated, ok := cache.(backends.Gated); ok {
		options = gated.Options() // without the place, and its credentials
	}
	return backends.Destination{
		Name:   c.plan.Write,
		Caches: []string{cache.String()},
		Strict: []bool{cache.Strict()},
		Entry:  entry,
		Silent: !slices.Contains([]string{"registry", "local"}, entry.Type),
		Unchanged: func(e backends.Exported) bool {
			return c.unchanged(cache, options, e)
		},
		Commit: func(ctx context.Context, e backends.Exported) []error {
			return []error{c.annotate(ctx, cache, options, e)}
		},
	}
}

func (c *connector) annotate(ctx context.Context, cache backends.Keeper, options map[string]string, e backends.Exported) error {
	store := cache.Scopes()
	if gated, ok := cache.(backends.Gated); ok {
		store = gated.Destination()
	}
	m, err := store.Manifest(ctx, c.plan.Write)
	var withheld backends.Withheld
	switch {
	case errors.As(err, &withheld):
		return nil // who may not read what was written must do without
	case err != nil:
		return fmt.Errorf("attach the scope's record: %w", err)
	}
	if e.Manifest != "" && m.Descriptor().Digest != e.Manifest {
		return nil // the other build's cache is as good, and has its own record
	}
	if m, err = m.WithRecord(c.written(options, e)); err == nil {
		err = store.PutManifest(ctx, c.plan.Write, m)
	}
	if err != nil {
		return fmt.Errorf("attach the scope's record: %w", err)
	}
	return nil
}

// inline is the destination of a cache that went out with the image.
func (c *connector) inline(cache *backends.Inline) backends.Destination {
	return backends.Destination{
		Name:   c.plan.Write,
		Caches: []string{cache.String()},
		Strict: []bool{cache.Strict()},
		Unchanged: func(e backends.Exported) bool {
			own := c.read(cache)
			return own.State == backends.Loaded && own.Manifest.Descriptor().Digest == e.Image
		},
		Commit: func(ctx context.Context, e backends.Exported) []error {
			return []error{cache.Tag(ctx, c.plan.Write, e.Image.String())}
		},
	}
}

func (c *connector) unchanged(cache backends.Backend, options map[string]string, e backends.Exported) bool {
	own := c.read(cache)
	return own.State == backends.Loaded &&
		own.Manifest.Record.Unchanged(backends.ResultKey(options, e.Content), time.Now())
}

// read is a cache's own scope as it was read, and settled; the zero value when it was not.
func (c *connector) read(cache backends.Backend) backends.Source {
	own := c.own[cache]
	own.Settle()
	return own
}

func (c *connector) written(options map[string]string, e backends.Exported) backends.Record {
	r := c.record
	r.Time, r.Result = time.Now(), backends.ResultKey(options, e.Content)
	return r
}
