package solve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// exports are the export solves of one attempt, one for each destination: BuildKit
// shares one error group and one answer between the exports of a solve.
type exports struct {
	run     *run
	mounts  mounts
	imports []gateway.Import
	watch   *watch // of the build solve
	made    backends.Exported
	seconds float64 // from the first start to the last end

	began   time.Time
	stop    context.CancelCauseFunc
	wg      sync.WaitGroup
	results [][]Export // for each destination, one for each of its caches; nil until decided
	sent    []*client.SolveResponse
}

func newExports(b *run, m mounts, imports []gateway.Import, w *watch) *exports {
	n := len(b.Caches.Destinations)
	x := &exports{
		run: b, mounts: m, imports: imports, watch: w,
		results: make([][]Export, n), sent: make([]*client.SolveResponse, n),
	}
	for i, d := range b.Caches.Destinations {
		if d.Refused != nil {
			x.results[i] = outcomes(d)
			x.settle(i, Skipped, d.Refused)
		}
	}
	return x
}

// errChanged says that an export would have run steps: it is about other inputs
// than the build was.
var errChanged = errors.New("the build's inputs changed while it ran")

// start begins every export that has not begun.
func (x *exports) start(ctx context.Context) {
	if x.stop == nil {
		ctx, x.stop = context.WithCancelCause(ctx)
		x.began = time.Now()
	}
	for i, d := range x.run.Caches.Destinations {
		if x.results[i] != nil {
			continue
		}
		x.results[i] = outcomes(d)
		if d.Entry.Type == "" {
			continue // it went out with the image
		}
		x.wg.Go(func() { x.export(ctx, i, d) })
	}
}

// startChanged begins the exports that have not begun and are not unchanged.
func (x *exports) startChanged(ctx context.Context) {
	// What a first try ran counts as cached in the second, and its scope is still broken.
	cached := x.watch.allCached() && x.run.result.Retried == ""
	for i, d := range x.run.Caches.Destinations {
		if x.results[i] == nil && cached && d.Unchanged != nil && d.Unchanged(x.made) {
			x.results[i] = outcomes(d)
			for n := range x.results[i] {
				x.results[i][n].Outcome = Unchanged
			}
		}
	}
	x.start(ctx)
}

func outcomes(d backends.Destination) []Export {
	out := make([]Export, len(d.Caches))
	for n := range out {
		out[n] = Export{Cache: d.Caches[n], Name: string(d.Name), Strict: d.Strict[n]}
	}
	return out
}

// export runs one export solve: the build's options and imports, no outputs, and
// never no-cache, which would run every step again.
func (x *exports) export(ctx context.Context, i int, d backends.Destination) {
	began := time.Now()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	// Not a deadline: gRPC would send it along, and the daemon's words for it may come
	// before ours.
	limit := x.run.Inputs.CacheTimeout
	defer time.AfterFunc(limit, func() {
		abort(fmt.Errorf("not done within %s (cache-timeout)", limit))
	}).Stop()
	t := x.run.target(x.mounts, x.imports)
	t.cacheExports = []client.CacheOptionsEntry{d.Entry}
	t.internal = true
	watch := newWatch(t.session)
	t.watch = func(s *client.SolveStatus) {
		watch.update(s)
		if step := watch.ran(x.watch); step != "" {
			abort(fmt.Errorf("%w: %s would have run again", errChanged, step))
		}
	}
	response, err := x.run.solve(ctx, t)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	x.sent[i] = response
	for n := range x.results[i] {
		x.results[i][n].Err = err
		x.results[i][n].Seconds = time.Since(began).Seconds()
	}
}

// cancel ends the exports under way; wait then reports why.
func (x *exports) cancel(cause error) {
	if x.stop != nil {
		x.stop(cause)
	}
}

// wait ends every export: what was sent becomes the scope's cache, with its record.
func (x *exports) wait(ctx context.Context) []Export {
	x.wg.Wait()
	var all []Export
	for i, d := range x.run.Caches.Destinations {
		switch {
		case x.results[i] == nil:
			x.results[i] = outcomes(d)
			x.settle(i, Skipped, errors.New("the build failed"))
		case x.results[i][0].Outcome != "": // unchanged, or refused
		default:
			x.commit(ctx, i, d)
		}
		all = append(all, x.results[i]...)
	}
	if x.stop != nil {
		x.stop(nil)
	}
	if slices.ContainsFunc(all, func(e Export) bool { return e.Outcome == Written || e.Outcome == Broken }) {
		x.seconds = time.Since(x.began).Seconds()
	}
	return all
}

func (x *exports) settle(i int, o Outcome, err error) {
	for n := range x.results[i] {
		x.results[i][n].Outcome, x.results[i][n].Err = o, err
	}
}

// commit decides what became of one destination. Exports of a registry or a
// directory answer with a manifest, unless there was no layer to cache: a good
// cache is not replaced by an empty one.
func (x *exports) commit(ctx context.Context, i int, d backends.Destination) {
	err := x.results[i][0].Err
	switch {
	case errors.Is(err, errChanged):
		x.settle(i, Skipped, err)
		return
	case err != nil:
		x.settle(i, Broken, err)
		return
	case d.Entry.Type == "" && x.made.Image == "":
		x.settle(i, Skipped, errors.New("the image was not pushed"))
		return
	}
	made := x.made
	if d.Entry.Type != "" {
		made.Manifest = manifestOf(x.sent[i])
	}
	if d.Entry.Type != "" && made.Manifest == "" && !d.Silent && d.Commit != nil {
		x.settle(i, Skipped, errors.New("there is no layer to cache"))
		return
	}
	x.settle(i, Written, nil)
	x.tell(i, d)
	if d.Commit == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, x.run.Inputs.CacheTimeout)
	defer cancel()
	for n, err := range d.Commit(ctx, made) {
		if err != nil {
			x.results[i][n].Outcome, x.results[i][n].Err = Broken, err
		}
	}
}

// tell adds what BuildKit answered of a cache of the user's own to the metadata, where
// it is when cache and image are exported by one solve.
func (x *exports) tell(i int, d backends.Destination) {
	if d.Name != "" || x.sent[i] == nil {
		return
	}
	if manifest := x.sent[i].ExporterResponse[keyCacheManifest]; manifest != "" {
		x.run.result.Metadata[keyCacheManifest] = manifest
	}
}
