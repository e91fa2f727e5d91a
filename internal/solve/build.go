// Package solve holds everything that BuildKit is asked for: one solve that builds, and
// one for each destination of the cache.
//
//	result, err := solve.Run(ctx, solve.Request{Inputs: values, Builder: b, Caches: caches, Progress: display})
//	// result.Digest, result.Steps, result.Sources and result.Exports are filled,
//	// as far as the build came, also when err is not nil.
//
// The cache is exported in solves of its own, so that it can neither delay nor cancel a
// push, has a timeout, fails alone and costs nothing when nothing changed.
package solve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/util/progress/progressui"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/explain"
)

// Request is one build. The zero values of the optional fields leave them out.
type Request struct {
	Inputs  inputs.Values
	Builder *builder.Builder
	Caches  cacheplan.Plan

	// Exclude are directories that a local context leaves out where it holds them.
	Exclude []string
	// Auth finds the credentials of registries; nil for none.
	Auth authprovider.AuthConfigProvider
	// Login says who is logged in to a repository such as "ghcr.io/owner/app", for the explanation
	// of a failure; nil where that is not known.
	Login func(ctx context.Context, repository string, push bool) explain.Login
	// Redact hides secrets in a text; nil where there are none.
	Redact func(string) string
	// Engine is where an output of type docker without a destination goes.
	Engine builder.Engine
	// Proxies are build arguments from the Docker config: HTTP_PROXY and the like. Those
	// that the inputs have too, in upper or lower case, are left out.
	Proxies map[string]string
	// BuilderID names the builder in a provenance that names none: the page of the run; "": it stays so.
	BuilderID string
	// Progress shows the build; its mode is that of the input.
	Progress io.Writer
	// Stdout takes the outputs with dest=-.
	Stdout io.Writer
}

// Run builds and exports the cache. When cache sources are at fault for an error, it builds
// once more without them. The error is the build's; the outcomes of caches are in the result.
// With Inputs.Call it asks the frontend instead, and returns the findings of a check as an
// error.
func Run(ctx context.Context, req Request) (Result, error) {
	display, err := progressui.NewDisplay(req.Progress, progressui.DisplayMode(req.Inputs.Progress))
	if err != nil {
		return Result{}, fmt.Errorf("show progress: %w", err)
	}
	b := &run{Request: req, display: make(chan *client.SolveStatus), key: identity.NewID(), seed: newSeed()}
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
	seed    []byte // of the keys by which these sessions share registries' tokens
	display chan *client.SolveStatus
	indexes bool           // the image goes into an engine that calls it by its digest
	loads   sync.WaitGroup // images on their way into engines
	notes   []Warning      // of this package, for the result
	result  Result
}

// build makes the first attempt and, where a second one may help, that one too.
func (b *run) build(ctx context.Context) error {
	mounts, err := b.mounts(ctx)
	if err != nil {
		return err
	}
	faults, err := b.attempt(ctx, mounts)
	b.Caches.Reads.LeaveOut(faults)
	// A daemon that this run did not start cannot be restarted, and would go on hanging.
	if len(faults) > 0 && (b.Builder.Managed || !errors.Is(err, cacheplan.ErrImportHangs)) {
		err = b.again(ctx, mounts, err)
	}
	b.result.Sources = b.Caches.Reads.Outcomes()
	return err
}

// again is the second attempt. A managed builder on which the first was given up is
// restarted before.
func (b *run) again(ctx context.Context, m mounts, why error) error {
	b.result.Retried = fmt.Sprintf("a cache broke the build: %v", why)
	for i := range b.result.Phases {
		b.result.Phases[i].Name = "first " + b.result.Phases[i].Name
	}
	if b.Builder.Managed && (errors.Is(why, cacheplan.ErrImportHangs) || errors.Is(why, cacheplan.ErrStalled)) {
		if err := b.Builder.Restart(ctx); err != nil {
			return err
		}
	}
	_, err := b.attempt(ctx, m)
	return err
}

// attempt runs the build solve, and the export solves beside its push. It returns the
// cache sources that are at fault for the error.
func (b *run) attempt(ctx context.Context, m mounts) ([]cacheplan.Fault, error) {
	b.result.Exports, b.result.Steps = nil, nil
	began := time.Now()
	imports := b.Caches.Reads.Imports(ctx)
	solving, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if b.Builder.Managed {
		// The client would wait 5 s for the last statuses of a daemon that hangs
		// (v0.33.1, client/solve.go). This daemon is stopped or restarted anyway.
		end := b.Builder.Client.Close
		defer context.AfterFunc(solving, func() { _ = end() })()
	}
	a := b.target(m, imports)
	a.exports, a.noCache, a.show = b.outputs(m), true, b.display
	if b.Caches.Inline || b.Inputs.InlineCache {
		a.cacheExports = []client.CacheOptionsEntry{{Type: "inline", Attrs: map[string]string{}}}
	}
	watch := newWatch(a.session)
	watch.limitCaches(b.Inputs.CacheTimeout, cancel)
	a.watch = watch.update

	exports := newExports(b, m, imports, watch)
	done := make(chan struct{})
	var response *client.SolveResponse
	var err error
	go func() {
		defer close(done)
		a, response, err = b.buildAndPush(solving, a)
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
	if cause := context.Cause(solving); err != nil && ctx.Err() == nil && cause != nil {
		err = cause
	}
	b.take(response, watch, began)
	if err == nil {
		b.describe(ctx, a.ref, watch)
		exports.made = b.made(ctx, response)
	} else {
		b.result.Failure = b.failure(ctx, err, watch)
	}
	faults := b.Caches.Reads.Observe(cacheplan.Attempt{
		Err: err, Cancelled: ctx.Err() != nil, Imports: watch.imports(a.imports), Partial: watch.partial(),
	})
	b.finish(ctx, exports, err, len(faults) > 0)
	return faults, err
}

// finish ends the exports: it completes all of them after a good build, and those under
// way after a failed push. It cancels them before a second attempt, and when the run was
// cancelled.
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
