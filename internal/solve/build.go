// Package solve makes all requests to BuildKit: one solve that builds, and
// one for each destination of the cache.
//
//	result, err := solve.Run(ctx, solve.Request{Inputs: values, Builder: b, Caches: caches, Progress: display})
//	// result.Digest, result.Steps, result.Sources and result.Exports are filled,
//	// as far as the build got, also when err is not nil.
//
// The cache is exported in separate solves. An export therefore neither delays nor cancels a push,
// has its own timeout, fails alone, and is left out when nothing has changed.
package solve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/util/progress/progressui"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/cachemounts"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/engineapi"
	"github.com/warmlayer/warmlayer/internal/explain"
	"github.com/warmlayer/warmlayer/internal/screen"
	"github.com/warmlayer/warmlayer/internal/timing"
	"github.com/warmlayer/warmlayer/internal/together"
	"github.com/warmlayer/warmlayer/internal/tokenauth"
)

// Request is one build. The zero values of the optional fields leave them out.
type Request struct {
	Inputs  inputs.Values
	Builder *builder.Builder
	Caches  cacheplan.Plan
	Mounts  *cachemounts.Mounts // the cache mounts that are kept; nil: none

	// Shared is for one of several builds on a builder; nil: it is the only one. The connection to the builder then stays
	// open when ctx ends, and the builder is not restarted.
	Shared *together.Shared
	// Exclude are directories that are left out of local contexts.
	Exclude []string
	// Auth finds the credentials of registries; nil for none.
	Auth authprovider.AuthConfigProvider
	// Login says who is logged in to a repository such as "ghcr.io/owner/app", for the explanation
	// of a failure; nil: unknown.
	Login func(ctx context.Context, repository string, push bool) explain.Login
	// Redact hides secrets in a text; nil: there are none.
	Redact func(string) string
	// Engine is the container engine that an output of type docker without a destination is loaded into.
	Engine engineapi.Place
	// Why asks why steps would not be cached, in place of a build: the frontend says what it would do, and
	// nothing is built, read from a cache or written.
	Why bool
	// Proxies are build arguments from the Docker config: HTTP_PROXY and the like. Those
	// that the inputs have too, in upper or lower case, are left out.
	Proxies map[string]string
	// BuilderID is the builder's id in a provenance without one: the page of the run; "": none.
	BuilderID string
	// Finished is called when nothing needs the builder any more, while what was exported is made the scopes' cache. Where a
	// build fails or is traced that is only at the end of Run, and it is not called; nil: not of interest.
	Finished func()
	// Screen makes what the build says fit to be shown; nil: it is shown as it is.
	Screen screen.Text
	// Progress gets the display of the build, in the mode of the input progress.
	Progress io.Writer
	// Stdout gets the outputs with dest=-.
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
	if req.Screen == nil {
		req.Screen = screen.None{}
	}
	b := &run{Request: req, display: make(chan *client.SolveStatus), key: req.Shared.Key(req.Inputs.Context.Dir), seed: tokenauth.NewSeed(), recall: newRecall()}
	shown := make(chan error, 1)
	go func() {
		defer crash.Catch()
		_, err := display.UpdateFrom(context.WithoutCancel(ctx), b.display)
		shown <- err
	}()
	building, end := context.WithCancel(ctx)
	switch {
	case req.Inputs.Call != "":
		err = b.call(building)
	case req.Why:
		err = b.why(building)
	default:
		err = b.build(building)
	}
	b.traces(building)
	end()
	b.loads.Wait()
	close(b.display)
	b.result.Parts = b.time.Parts()
	return b.result, errors.Join(err, <-shown)
}

// run is one call of Run in progress.
type run struct {
	Request
	key     string // shared by the sessions of this build, so that BuildKit joins their solves
	seed    []byte // of the keys by which these sessions share registries' tokens
	display chan *client.SolveStatus
	indexes bool           // the image is loaded into an engine that uses its digest as the ID, or made there
	loads   sync.WaitGroup // images that are being loaded into engines

	handedOver time.Time // when the engine that builds began to push the image itself; zero: it does not

	notes  []Warning // of this package, for the result
	recall *recall
	former int // phases of the result that belong to attempts that failed
	time   timing.Log

	recording sync.Mutex
	records   []recorded // of solves, where there is a trace
	result    Result
}

// build makes the first attempt and, where cache sources are at fault for its error, another
// one, twice at most.
func (b *run) build(ctx context.Context) error {
	mounts, err := b.mounts(ctx)
	if err != nil {
		return err
	}
	faults, err := b.attempt(ctx, mounts)
	for _, name := range []string{"first ", "second "} {
		b.Caches.Reads.LeaveOut(faults)
		// A remote or shared builder cannot be restarted, so it would hang again.
		if len(faults) == 0 || (!b.Builder.Managed || b.Shared != nil) && errors.Is(err, cacheplan.ErrImportHangs) {
			break
		}
		faults, err = b.again(ctx, mounts, name, err)
	}
	b.result.Sources = b.Caches.Reads.Outcomes()
	b.explainMisses(ctx)
	return err
}

// again is another attempt after the named one. A managed builder on which that one was
// abandoned is restarted first.
func (b *run) again(ctx context.Context, m mounts, name string, why error) ([]cacheplan.Fault, error) {
	b.result.Retried = cmp.Or(b.result.Retried, fmt.Sprintf("a cache broke the build: %v", why))
	for i := range b.result.Phases[b.former:] {
		b.result.Phases[b.former+i].Name = name + b.result.Phases[b.former+i].Name
	}
	b.former = len(b.result.Phases)
	b.time.Former(name)
	if b.Builder.Managed && b.Shared == nil && (errors.Is(why, cacheplan.ErrImportHangs) || errors.Is(why, cacheplan.ErrStalled)) {
		if err := b.Builder.Restart(ctx); err != nil {
			return nil, err
		}
	}
	return b.attempt(ctx, m)
}

// attempt runs the build solve, and the export solves during its push. It returns the cache sources
// that are at fault for the error.
func (b *run) attempt(ctx context.Context, m mounts) ([]cacheplan.Fault, error) {
	b.result.Exports, b.result.Steps = nil, nil
	began := time.Now()
	merged := b.time.Start("merge caches")
	imports := b.Caches.Reads.Imports(ctx)
	merged()
	solving, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer b.disconnect(solving)()
	a := b.building(m, imports)
	watch := newWatch(a.session)
	watch.limitCaches(b.Inputs.CacheTimeout, b.Caches.Reads.Settled, cancel)
	early := b.ahead(solving, m, watch, a.exports)
	defer early.End()
	a.filter = b.Mounts.Filter
	a.answered = func(ctx context.Context, c gw.Client, r *gw.Result) {
		graph := b.recall.planned(ctx, r)
		early.Planned(graph)
		b.Mounts.Pass(ctx, c, r, graph)
	}
	a.watch = func(s *client.SolveStatus) {
		watch.update(s)
		early.Update(s)
	}

	done := make(chan struct{})
	var response *client.SolveResponse
	var err error
	go func() {
		defer crash.Catch()
		defer close(done)
		a, response, err = b.buildAndPush(solving, a)
	}()
	select {
	case <-watch.layers:
	case <-done:
	}
	exports := newExports(b, m, imports, watch)
	if watch.Pushed() {
		exports.whilePushing(solving)
		b.Mounts.Save(ctx, beside{b, m})
	}
	<-done
	watch.stop()
	if cause := context.Cause(solving); err != nil && ctx.Err() == nil && cause != nil {
		err = cause
	}
	b.take(response, watch, began, a.span)
	if err == nil {
		b.succeeded(ctx, a.ref, response, exports)
	} else {
		b.result.Failure = b.failure(ctx, err, watch)
	}
	faults := b.Caches.Reads.Observe(cacheplan.Attempt{
		Err: err, Cancelled: ctx.Err() != nil, Imports: watch.imports(a.imports), Partial: watch.partial(), Recovered: watch.failed(),
	})
	b.finish(ctx, exports, err, len(faults) > 0)
	return faults, err
}

// disconnect closes the connection to a managed builder when ctx ends. The client would wait 5 s for the
// last statuses of a daemon that hangs (v0.34.2, client/solve.go), and this one is stopped or restarted
// anyway. The returned function gives that up.
func (b *run) disconnect(ctx context.Context) (stop func() bool) {
	if !b.Builder.Managed || b.Shared != nil {
		return func() bool { return true }
	}
	end := b.Builder.Client.Close
	return context.AfterFunc(ctx, func() {
		defer crash.Catch()
		_ = end()
	})
}

// building is the build solve, without what watches it.
func (b *run) building(m mounts, imports []client.CacheOptionsEntry) target {
	a := b.target(m.lent(), imports)
	a.exports, a.noCache, a.show = b.outputs(m), true, b.display
	if b.inline() {
		a.cacheExports = []client.CacheOptionsEntry{{Type: "inline", Attrs: map[string]string{}}}
	}
	return a
}

// inline tells whether the image carries its cache.
func (b *run) inline() bool { return b.Caches.Inline || b.Inputs.InlineCache }

// succeeded reads what the build solve made from the daemon, for the metadata and for the exports.
func (b *run) succeeded(ctx context.Context, ref string, response *client.SolveResponse, x *exports) {
	defer b.time.Start("read result")()
	b.describe(ctx, ref, x.watch)
	x.made = b.made(ctx, response)
	x.made.Hits, x.made.Steps, x.made.Memory = b.result.Hits(), len(b.result.Steps), b.memory
	x.skipEmpty(ctx, response)
}

// finish ends the exports. After a successful build it completes all of them, and after a failed
// push those that have begun. Before a second attempt, and when the run is cancelled, it cancels
// them.
func (b *run) finish(ctx context.Context, x *exports, err error, again bool) {
	switch {
	case err == nil:
		b.Mounts.Save(ctx, beside{b, x.mounts})
		x.startChanged(ctx)
		if b.Finished != nil && !again && !traced(ctx) {
			go func() {
				defer crash.Catch()
				x.wg.Wait()
				b.Mounts.Wait()
				b.Finished()
			}()
		}
	case again || ctx.Err() != nil:
		x.cancel(errors.New("the build failed"))
	default:
		x.startPartial(ctx, err)
	}
	b.result.Exports, b.result.Mounts = x.wait(ctx), b.Mounts.Wait()
	if x.seconds > 0 {
		b.result.phase("export cache", x.seconds)
	}
}

// manifestOf is the digest of the cache manifest that an export solve sent; "": none.
func manifestOf(response *client.SolveResponse) digest.Digest {
	var desc ocispecs.Descriptor
	if json.Unmarshal([]byte(response.ExporterResponse[keyCacheManifest]), &desc) != nil {
		return ""
	}
	return desc.Digest
}
