package solve

import (
	"context"
	"maps"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
)

// target is the purpose of one solve.
type target struct {
	ref          string // of the build's record in the daemon's history
	session      *session.Session
	mounts       mounts
	imports      []client.CacheOptionsEntry
	exports      []client.ExportEntry // of the build solve only
	cacheExports []client.CacheOptionsEntry
	noCache      bool                       // applies the inputs no-cache and no-cache-filters
	internal     bool                       // left out of the daemon's build history
	watch        func(*client.SolveStatus)  // gets every status, in order
	show         chan<- *client.SolveStatus // gets every status too; nil: none
}

// target is the part that a build's solves have in common.
func (b *run) target(m mounts, imports []client.CacheOptionsEntry) target {
	// NewSession fails only when the system has no randomness.
	s, err := session.NewSession(context.Background(), b.key)
	if err != nil {
		panic(err)
	}
	t := target{ref: identity.NewID(), session: s, mounts: m}
	for _, i := range imports {
		// The client writes to the attributes that it gets.
		t.imports = append(t.imports, client.CacheOptionsEntry{Type: i.Type, Attrs: maps.Clone(i.Attrs)})
	}
	return t
}

// solve runs the build and every export, with the same frontend, options and imports.
func (b *run) solve(ctx context.Context, t target) (*client.SolveResponse, error) {
	opt, err := b.options(t)
	if err != nil {
		return nil, err
	}
	opt.Frontend = frontend(opt.FrontendAttrs)
	statuses, done := b.follow(t)
	response, err := b.Builder.Client.Solve(ctx, nil, opt, statuses)
	<-done
	return response, err
}

// options are the options of a solve, without the name of the frontend.
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

// follow passes the statuses of one solve on, until the solve closes them. What is shown has gone
// through the screen, and so have the logs that are watched.
func (b *run) follow(t target) (chan *client.SolveStatus, <-chan struct{}) {
	statuses, done := make(chan *client.SolveStatus), make(chan struct{})
	screened := newScreened(b.Screen)
	go func() {
		defer close(done)
		for s := range statuses {
			if t.show == nil {
				t.watch(s)
				continue
			}
			shown := screened.status(s)
			watched := *s
			watched.Logs = shown.Logs
			t.watch(&watched)
			t.show <- shown
		}
		if rest := screened.rest(); t.show != nil && len(rest.Logs) > 0 {
			t.watch(rest)
			t.show <- rest
		}
	}()
	return statuses, done
}
