package cacheplan

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// group is several caches that receive one export through the gateway.
type group struct {
	options map[string]string
	caches  []Cache
	stores  []backends.Store
	scopes  []written // one for each cache
	fanout  *gateway.Fanout
}

// join adds a cache to the group with the same export options, or makes a new group.
func join(groups []*group, cache backends.GatewayWritten, name Cache, w written) []*group {
	options := cache.Options()
	var g *group
	for _, other := range groups {
		if maps.Equal(other.options, options) {
			g = other
		}
	}
	if g == nil {
		g = &group{options: options}
		groups = append(groups, g)
	}
	w.options = options
	g.caches, g.stores, g.scopes = append(g.caches, name), append(g.stores, cache.Destination()), append(g.scopes, w)
	return groups
}

func (g *group) destination(r settled) Destination {
	g.fanout = r.Gateway.Accept(g.stores, r.expected(), r.Timeout/2)
	attrs := maps.Clone(g.options)
	attrs["ref"] = g.fanout.Ref(r.Scopes.Write)
	return Destination{
		Name: r.Scopes.Write, Caches: g.caches, Answers: true,
		Entry:  client.CacheOptionsEntry{Type: "registry", Attrs: attrs},
		target: g,
	}
}

func (g *group) unchanged(e Exported) bool {
	return !slices.ContainsFunc(g.scopes, func(w written) bool { return !w.unchanged(e) })
}

func (g *group) holds(e Exported, k *Known) bool {
	return !slices.ContainsFunc(g.scopes, func(w written) bool { return !w.holds(e, k) })
}

func (g *group) adds() bool {
	return !slices.ContainsFunc(g.scopes, func(w written) bool { return w.keep.Variants == 0 })
}

func (g *group) copy(e Exported) func(context.Context) []Committed {
	return g.each(func(n int) func(context.Context) Committed { return g.scopes[n].copy(g.stores[n], e) })
}

func (g *group) merge(e Exported, k *Known) func(context.Context) []Committed {
	return g.each(func(n int) func(context.Context) Committed { return g.scopes[n].merge(g.stores[n], e, k) })
}

// each is a function that writes all caches at once; nil where one of them has none.
func (g *group) each(writeOf func(cache int) func(context.Context) Committed) func(context.Context) []Committed {
	var writes []func(context.Context) Committed
	for n := range g.scopes {
		one := writeOf(n)
		if one == nil {
			return nil
		}
		writes = append(writes, one)
	}
	return func(ctx context.Context) []Committed {
		outcomes := make([]Committed, len(writes))
		var running sync.WaitGroup
		for n, one := range writes {
			running.Go(func() {
				defer crash.Catch()
				outcomes[n] = one(ctx)
			})
		}
		running.Wait()
		return outcomes
	}
}

func (g *group) commit(ctx context.Context, e Exported) []Committed {
	outcomes := make([]Committed, len(g.scopes))
	errs := g.fanout.Commit(ctx, func(n int) gateway.Write {
		return func(ctx context.Context, store backends.Store, sent gateway.Sent, damaged map[digest.Digest]error) error {
			fitted, note, err := fit(sent, damaged)
			if err == nil {
				outcomes[n] = g.scopes[n].write(ctx, store, fitted, note, e, nil)
				err = outcomes[n].Err
			}
			return err
		}
	})
	for n, err := range errs {
		outcomes[n].Err = err // of a store that has failed, too
	}
	return outcomes
}
