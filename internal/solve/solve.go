package solve

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/screen"
	"github.com/warmlayer/warmlayer/internal/waiting"
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
	export       bool                       // of a cache, without outputs
	span         [8]byte                    // the parent of BuildKit's spans, where there is a trace
	watch        func(*client.SolveStatus)  // gets every status, in order
	show         chan<- *client.SolveStatus // gets every status too; nil: none
	// answered gets the frontend's answer, with the client, before anything of it is made; nil: it is not needed.
	answered func(context.Context, gw.Client, *gw.Result)
	filter   func(*client.SolveStatus) *client.SolveStatus // the part of a status that watch and show get; nil: all of it
}

// target is the part that a build's solves have in common.
func (b *run) target(m mounts, imports []client.CacheOptionsEntry) target {
	// NewSession fails only when the system has no randomness.
	s, err := session.NewSession(context.Background(), b.key)
	if err != nil {
		panic(err)
	}
	t := target{ref: identity.NewID(), session: s, mounts: m, span: newSpan()}
	for _, i := range imports {
		// The client writes to the attributes that it gets.
		t.imports = append(t.imports, client.CacheOptionsEntry{Type: i.Type, Attrs: maps.Clone(i.Attrs)})
	}
	return t
}

// solve runs the build and every export, with the same frontend, options and imports.
func (b *run) solve(ctx context.Context, t target) (*client.SolveResponse, error) {
	ctx = t.within(ctx)
	if traced(ctx) {
		b.record(t)
	}
	return b.calling(ctx, t, nil)
}

// calling calls the frontend from here, as docker buildx does (v0.37.0, build/build.go), so that its answer
// is known, and lets the builder make what it answers. More are options of the frontend alone.
func (b *run) calling(ctx context.Context, t target, more map[string]string) (*client.SolveResponse, error) {
	attrs := b.attrs(t)
	request := gw.SolveRequest{Frontend: frontend(attrs), FrontendOpt: maps.Clone(attrs)}
	maps.Copy(request.FrontendOpt, more)
	ctx, end := context.WithCancel(ctx)
	defer end()
	return b.gateway(ctx, t, attrs, func(gateway context.Context, c gw.Client) (*gw.Result, error) {
		links, err := b.links(ctx, gateway, c, t)
		if err != nil {
			return nil, err
		}
		links.Give(&request)
		if known := c.BuildOpts().LLBCaps; len(t.exports) > 1 && known.Supports(pb.CapMultipleExporters) != nil {
			return nil, errOneOutput
		}
		result, err := c.Solve(gateway, request)
		if err == nil {
			b.tellOthers(gateway, t, attrs, result)
		}
		if err == nil && t.answered != nil {
			t.answered(gateway, c, result)
		}
		return result, err
	})
}

// errOneOutput says that the builder would make the first output alone.
var errOneOutput = errors.New("this builder makes one output, and there are several\n" +
	"hint: leave all but one out, or use BuildKit v0.13 or later, as Docker 26 has it")

// gateway makes the result of what a function does with a client of the gateway. The attributes say what is made of
// it, such as attestations.
func (b *run) gateway(ctx context.Context, t target, attrs map[string]string, do gw.BuildFunc) (*client.SolveResponse, error) {
	opt, err := b.options(t)
	if err != nil {
		return nil, err
	}
	opt.FrontendAttrs = attrs
	return followed(ctx, b, t, func(statuses chan *client.SolveStatus) (*client.SolveResponse, error) {
		return b.Builder.Client.Build(ctx, opt, "warmlayer", do, statuses)
	})
}

// define makes the result of a definition.
func (b *run) define(ctx context.Context, t target, def *llb.Definition) (*client.SolveResponse, error) {
	opt, err := b.options(t)
	if err != nil {
		return nil, err
	}
	return followed(ctx, b, t, func(statuses chan *client.SolveStatus) (*client.SolveResponse, error) {
		return b.Builder.Client.Solve(ctx, def, opt, statuses)
	})
}

// options are the options of a solve, without the frontend and its attributes.
func (b *run) options(t target) (client.SolveOpt, error) {
	attachables, err := b.attachables()
	return client.SolveOpt{
		SharedSession:       t.session,
		LocalMounts:         t.mounts.local,
		OCIStores:           b.layouts(t),
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

// abandonAfter is how long BuildKit's client may take to return after its context has ended. It
// waits for the last statuses of a builder that hangs, and for ever for a local cache in a
// directory that does not answer (v0.34.2, client/solve.go).
const abandonAfter = 2 * time.Second

// followed calls BuildKit's client and passes on the statuses of the solve. What is shown has gone
// through the screen, and so have the logs that are watched. When the client does not return after
// ctx has ended, the call is abandoned, and the error is the cause of ctx's end.
func followed[T any](ctx context.Context, b *run, t target, call func(chan *client.SolveStatus) (T, error)) (T, error) {
	statuses, ended := make(chan *client.SolveStatus), make(chan struct{})
	screened := screen.New(b.Screen)
	var mu sync.Mutex
	abandoned := false
	go func() {
		defer crash.Catch()
		defer close(ended)
		for s := range statuses {
			mu.Lock()
			if !abandoned {
				t.pass(screened, s)
			}
			mu.Unlock()
		}
		mu.Lock()
		defer mu.Unlock()
		if rest := screened.Rest(); !abandoned && t.show != nil && len(rest.Logs) > 0 {
			t.watch(rest)
			t.show <- rest
		}
	}()
	value, err := waiting.Patiently(ctx, abandonAfter, func() (T, error) {
		defer func() { <-ended }()
		return call(statuses)
	})
	mu.Lock()
	defer mu.Unlock()
	abandoned = true // later statuses are dropped
	return value, err
}

// pass passes on one status.
func (t target) pass(screened *screen.Stream, s *client.SolveStatus) {
	if t.filter != nil {
		s = t.filter(s)
	}
	if t.show == nil {
		t.watch(s)
		return
	}
	shown := screened.Status(s)
	watched := *s
	watched.Logs = shown.Logs
	t.watch(&watched)
	t.show <- shown
}
