// Package solve says everything that is said to BuildKit: one solve that builds,
// and one for each place that the cache is exported to.
//
//	result, err := solve.Run(ctx, solve.Request{Inputs: values, Builder: b, Caches: caches, Progress: display})
//	// result.Digest, result.Steps, result.Sources and result.Exports are filled,
//	// as far as the build came, also when err is not nil.
//
// The cache is exported in solves of its own, so that it can neither delay nor
// cancel a push, has a deadline, fails alone and costs nothing when nothing changed.
package solve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/util/progress/progressui"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// Request is one build. The zero values of the optional fields leave them out.
type Request struct {
	Inputs  inputs.Values
	Builder *builder.Builder
	Caches  gateway.Caches
	Sources []backends.Source // what was read, and entries of the user's own

	// Exclude are directories that a local context leaves out where it holds them.
	Exclude []string
	// Auth finds the credentials of registries; nil for none.
	Auth authprovider.AuthConfigProvider
	// Lost lists the cached blobs that could not be handed out; nil where nobody watches.
	Lost func() []digest.Digest
	// Engine is where an output of type docker without a destination goes.
	Engine builder.Engine
	// Proxies are build arguments from the Docker config: HTTP_PROXY and the like. One
	// that the inputs have too, in whatever case, gives way.
	Proxies map[string]string
	// BuilderID names the builder in a provenance that names none: the page of the run; "": it stays so.
	BuilderID string
	// Progress shows the build; its mode is that of the input.
	Progress io.Writer
	// Stdout takes the outputs with dest=-.
	Stdout io.Writer
}

// Run builds, once more without the caches that broke it where a cache did, and
// exports the cache. The error is the build's; what befell caches is in the result.
// With Inputs.Call it asks the frontend instead; what a check finds is an error then.
func Run(ctx context.Context, req Request) (Result, error) {
	display, err := progressui.NewDisplay(req.Progress, progressui.DisplayMode(req.Inputs.Progress))
	if err != nil {
		return Result{}, fmt.Errorf("show progress: %w", err)
	}
	b := &run{Request: req, display: make(chan *client.SolveStatus), key: identity.NewID()}
	shown := make(chan error, 1)
	go func() {
		_, err := display.UpdateFrom(context.WithoutCancel(ctx), b.display)
		shown <- err
	}()
	building, end := context.WithCancel(ctx)
	if req.Inputs.Call != "" {
		err = b.call(building)
	} else {
		err = b.build(building)
	}
	end()
	b.loads.Wait()
	close(b.display)
	return b.result, errors.Join(err, <-shown)
}

// run is one Run under way.
type run struct {
	Request
	key     string // what the sessions of this build share, so that solves join
	display chan *client.SolveStatus
	broken  []backends.Source // those that broke the first attempt
	indexes bool              // the image goes into an engine that calls it by its digest
	loads   sync.WaitGroup    // images on their way into engines
	result  Result
}

// build makes the first attempt and, if it has to be, the second.
func (b *run) build(ctx context.Context) error {
	mounts, err := b.mounts(ctx)
	if err != nil {
		return err
	}
	guilty, err := b.attempt(ctx, mounts)
	b.drop(guilty)
	// Somebody else's daemon would go on hanging.
	if len(guilty) > 0 && (b.Builder.Ours || !errors.Is(err, errHangs)) {
		err = b.again(ctx, mounts, err)
	}
	for _, s := range slices.Concat(b.Sources, b.broken) {
		b.result.Sources = append(b.result.Sources, asSource(s))
	}
	return err
}

// drop leaves out the sources that broke the build from now on.
func (b *run) drop(guilty []fault) {
	for _, f := range guilty {
		f.source.State, f.source.Err = backends.Failed, f.err
		b.broken = append(b.broken, *f.source)
	}
	var sound []backends.Source
	for i := range b.Sources {
		if !slices.ContainsFunc(guilty, func(f fault) bool { return f.source == &b.Sources[i] }) {
			sound = append(sound, b.Sources[i])
		}
	}
	b.Sources = sound
}

// again is the second attempt. A daemon of ours on which the first was given up is
// started anew.
func (b *run) again(ctx context.Context, m mounts, why error) error {
	b.result.Retried = fmt.Sprintf("a cache broke the build: %v", why)
	for i := range b.result.Phases {
		b.result.Phases[i].Name = "first " + b.result.Phases[i].Name
	}
	if b.Builder.Ours && (errors.Is(why, errHangs) || errors.Is(why, errStalls)) {
		if err := b.Builder.Restart(ctx); err != nil {
			return err
		}
	}
	_, err := b.attempt(ctx, m)
	return err
}

func asSource(s backends.Source) Source {
	return Source{Cache: s.String(), Name: string(s.Name), Why: s.Why, State: s.State, Err: s.Err}
}

// attempt runs the build solve, and the export solves beside its push. It returns
// the sources that made it fail, if any did.
func (b *run) attempt(ctx context.Context, m mounts) ([]fault, error) {
	b.result.Exports, b.result.Steps = nil, nil
	began := time.Now()
	imports := b.Caches.Imports(ctx, b.Sources)
	solving, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if b.Builder.Ours {
		// The client would wait 5 s for the last words of a daemon that hangs
		// (v0.33.1, client/solve.go). This one is to be stopped anyway.
		end := b.Builder.Client.Close
		defer context.AfterFunc(solving, func() { _ = end() })()
	}
	a := b.target(m, imports)
	a.exports, a.noCache, a.show = b.outputs(m), true, b.display
	if b.Caches.Inline || b.Inputs.InlineCache {
		a.cacheExports = []client.CacheOptionsEntry{{Type: "inline", Attrs: map[string]string{}}}
	}
	watch := newWatch(a.session)
	watch.cachesWithin(b.Inputs.CacheTimeout, cancel)
	a.watch = watch.update

	exports := newExports(b, m, imports, watch)
	done := make(chan struct{})
	var response *client.SolveResponse
	var err error
	go func() {
		defer close(done)
		response, err = b.solve(solving, a)
	}()
	select {
	case <-watch.layers:
		if !watch.allCached() {
			exports.start(solving)
		}
		<-done
	case <-done:
	}
	watch.stop()
	for i := range imports {
		imports[i].Settle()
	}
	if cause := context.Cause(solving); err != nil && ctx.Err() == nil && cause != nil {
		err = cause
	}
	b.take(response, watch, began)
	if err == nil {
		b.describe(ctx, a.ref, watch)
		exports.made = b.made(ctx, response)
	} else {
		b.result.Failure = b.failure(err, watch)
	}
	open := watch.settle(imports, a.imports)
	guilty := b.guilty(ctx, err, imports, open, watch.brokenOff())
	b.finish(ctx, exports, err, len(guilty) > 0)
	return guilty, err
}

// finish brings the exports to their end: all of them after a good build, those
// under way after a failed push, none after a cache's fault or a cancel.
func (b *run) finish(ctx context.Context, x *exports, err error, again bool) {
	switch {
	case err == nil:
		x.startChanged(ctx)
	case again || ctx.Err() != nil:
		x.cancel(errors.New("the build failed"))
	}
	b.result.Exports = x.wait(context.WithoutCancel(ctx))
	if x.seconds > 0 {
		b.result.phase("export cache", x.seconds)
	}
}

// manifestOf is the digest of the cache manifest that an export solve sent, "" for none.
func manifestOf(response *client.SolveResponse) digest.Digest {
	var desc ocispecs.Descriptor
	if json.Unmarshal([]byte(response.ExporterResponse[keyCacheManifest]), &desc) != nil {
		return ""
	}
	return desc.Digest
}
