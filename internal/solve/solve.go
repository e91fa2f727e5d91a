package solve

import (
	"context"
	"maps"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
)

// target is what one solve is for.
type target struct {
	ref          string // of the build's record in the daemon's history
	session      *session.Session
	mounts       mounts
	imports      []client.CacheOptionsEntry
	exports      []client.ExportEntry // of the build solve only
	cacheExports []client.CacheOptionsEntry
	noCache      bool                       // obeys the inputs no-cache and no-cache-filters
	internal     bool                       // left out of the daemon's build history
	watch        func(*client.SolveStatus)  // sees every status, in order
	show         chan<- *client.SolveStatus // gets them too; nil for none
}

// target is the part that a build's solves have in common.
func (b *run) target(m mounts, imports []client.CacheOptionsEntry) target {
	// NewSession fails only where the system has no randomness left.
	s, err := session.NewSession(context.Background(), b.key)
	if err != nil {
		panic(err)
	}
	t := target{ref: identity.NewID(), session: s, mounts: m}
	for _, i := range imports {
		// The client writes into the attributes that it is given.
		t.imports = append(t.imports, client.CacheOptionsEntry{Type: i.Type, Attrs: maps.Clone(i.Attrs)})
	}
	return t
}

// solve serves the build and every export: same frontend, same options, same imports.
func (b *run) solve(ctx context.Context, t target) (*client.SolveResponse, error) {
	opt, err := b.options(t)
	if err != nil {
		return nil, err
	}
	opt.Frontend = frontend(opt.FrontendAttrs)
	statuses, done := t.follow()
	response, err := b.Builder.Client.Solve(ctx, nil, opt, statuses)
	<-done
	return response, err
}

// options are those of a solve, all but the frontend's name.
func (b *run) options(t target) (client.SolveOpt, error) {
	attachables, err := b.attachables()
	return client.SolveOpt{
		SharedSession:       t.session,
		LocalMounts:         t.mounts.local,
		OCIStores:           t.mounts.layouts,
		FrontendAttrs:       b.attrs(t),
		Exports:             t.exports,
		CacheImports:        t.imports,
		CacheExports:        t.cacheExports,
		Session:             attachables,
		AllowedEntitlements: b.Inputs.Allow,
		SourcePolicy:        b.Inputs.SourcePolicy,
		Internal:            t.internal,
		Ref:                 t.ref,
	}, err
}

// follow passes the statuses of one solve on, until the solve closes them.
func (t target) follow() (chan *client.SolveStatus, <-chan struct{}) {
	statuses, done := make(chan *client.SolveStatus), make(chan struct{})
	go func() {
		defer close(done)
		for s := range statuses {
			t.watch(s)
			if t.show != nil {
				t.show <- s
			}
		}
	}()
	return statuses, done
}
