package solve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/llbgraph"
	"github.com/warmlayer/warmlayer/internal/refusal"
	"github.com/warmlayer/warmlayer/internal/timing"
)

// exports are the export solves of one attempt, one for each destination: in BuildKit the exports
// of one solve share an error group and a response.
type exports struct {
	run     *run
	mounts  mounts
	imports []client.CacheOptionsEntry
	watch   *watch // of the build solve
	made    cacheplan.Exported
	seconds float64 // from the first start to the last end

	destinations []cacheplan.Destination

	early   string // the content that copies were begun for, before BuildKit's answer; "": none were
	knownOf string // the content that found is of; "": none
	found   *cacheplan.Known
	began   time.Time
	within  context.Context //nolint:containedctx // of the exports, until stop
	stop    context.CancelCauseFunc
	wg      sync.WaitGroup
	results [][]Export // for each destination, one for each of its caches; nil until decided
	copied  []bool     // for each destination: what other scopes have is written, without an export
	sent    []*client.SolveResponse
	partial []llbgraph.Output // of a build that failed, which are exported; nil: it succeeded
}

// commit writes the scopes of a destination, and returns one outcome for each of its caches.
type commit func(context.Context) []cacheplan.Committed

// newExports waits until it is known where the cache is written.
func newExports(b *run, m mounts, imports []client.CacheOptionsEntry, w *watch) *exports {
	destinations := b.Caches.Destinations()
	n := len(destinations)
	x := &exports{
		run: b, mounts: m, imports: imports, watch: w, destinations: destinations,
		results: make([][]Export, n), copied: make([]bool, n), sent: make([]*client.SolveResponse, n),
	}
	for i, d := range destinations {
		if d.Refused != nil {
			x.results[i] = outcomes(d)
			x.decide(i, Skipped, d.Refused)
		} else if d.Broken != nil {
			x.results[i] = outcomes(d)
			x.decide(i, Broken, d.Broken)
		}
	}
	return x
}

// errChanged says that an export would have run steps, so its inputs differ from those of the
// build.
var errChanged = errors.New("the build's inputs changed while it ran")

// whilePushing begins what can be written beside the push.
func (x *exports) whilePushing(ctx context.Context) {
	if x.watch.allCached() {
		x.copyEarly(ctx)
	} else {
		x.start(ctx)
	}
}

// copyEarly begins to copy the caches of other scopes: all steps were cached, and the progress says which
// image was made.
func (x *exports) copyEarly(ctx context.Context) {
	content, image := x.watch.content()
	if content == "" || x.run.result.Retried != "" || len(x.run.Inputs.Outputs) != 1 {
		return
	}
	x.early = content
	steps := len(x.watch.steps())
	made := cacheplan.Exported{Content: content, Hits: steps, Steps: steps, Images: []digest.Digest{digest.Digest(image)}, Memory: x.run.memory}
	ctx = x.begin(ctx)
	for i, d := range x.destinations {
		if x.results[i] == nil && !x.unchanged(ctx, d, made) {
			x.copy(ctx, i, d, made)
		}
	}
}

// unchanged reports whether a destination has the build already: this result, or another one of the same
// steps, as with another label.
func (x *exports) unchanged(ctx context.Context, d cacheplan.Destination, made cacheplan.Exported) bool {
	return d.Unchanged(made) || d.Holds(made, x.known(ctx, made))
}

// known is what the caches that were read have of the build; nil: not known. An SBOM's generator makes
// results that are in no image.
func (x *exports) known(ctx context.Context, made cacheplan.Exported) *cacheplan.Known {
	generates := slices.ContainsFunc(x.run.Inputs.Attests, func(a inputs.Attestation) bool { return a.Type == "sbom" })
	if made.Steps == 0 || generates {
		return nil
	}
	if x.knownOf != made.Content {
		x.knownOf, x.found = made.Content, x.run.Caches.Reads.Known(ctx, x.run.layers(ctx, made.Images))
	}
	return x.found
}

// copy begins to write what other scopes have of the build in place of an export, where they have all of it:
// the cache of one with the result, or the part of several that the build used.
func (x *exports) copy(ctx context.Context, i int, d cacheplan.Destination, made cacheplan.Exported) {
	write := d.Copy(made)
	if write == nil {
		write = d.Merge(made, x.known(ctx, made))
	}
	if write == nil {
		return
	}
	x.results[i], x.copied[i] = outcomes(d), true
	x.wg.Go(func() {
		defer crash.Catch()
		x.write(ctx, i, write)
	})
}

// begin is the context of all exports.
func (x *exports) begin(ctx context.Context) context.Context {
	if x.stop == nil {
		x.within, x.stop = context.WithCancelCause(ctx)
		x.began = time.Now()
	}
	return x.within
}

// start begins all exports that have not begun.
func (x *exports) start(ctx context.Context) {
	ctx = x.begin(ctx)
	for i, d := range x.destinations {
		if x.results[i] == nil {
			x.startOne(ctx, i, d)
		}
	}
}

func (x *exports) startOne(ctx context.Context, i int, d cacheplan.Destination) {
	x.results[i] = outcomes(d)
	if d.Entry.Type == "" {
		return // an inline cache is part of the image
	}
	x.wg.Go(func() {
		defer crash.Catch()
		x.export(ctx, i, d)
	})
}

// errNoLayer says that an export would be empty. An empty cache must not replace another one.
var errNoLayer = errors.New("there is no layer to cache")

// skipEmpty leaves out the exports of a build that made no layer. BuildKit would write an empty cache
// to stores of objects, and an image that contains none.
func (x *exports) skipEmpty(ctx context.Context, response *client.SolveResponse) {
	if len(x.watch.steps()) > 0 || len(x.results) == 0 || x.run.hasLayers(ctx, response.ExporterResponse) {
		return
	}
	for i, d := range x.destinations {
		if x.results[i] == nil {
			x.results[i] = outcomes(d)
			x.decide(i, Skipped, errNoLayer)
		}
	}
}

// startChanged begins the exports that have not begun, except unchanged ones and those whose result
// another scope has.
func (x *exports) startChanged(ctx context.Context) {
	// In a second attempt the steps that ran in the first one count as cached, but the scope is
	// still broken.
	cached := x.watch.allCached() && x.run.result.Retried == ""
	x.checkEarly()
	ctx = x.begin(ctx)
	for i, d := range x.destinations {
		if x.results[i] != nil || !cached {
			continue
		}
		if x.unchanged(ctx, d, x.made) {
			x.results[i] = outcomes(d)
			x.decide(i, Unchanged, nil)
		} else {
			x.copy(ctx, i, d, x.made)
		}
	}
	x.start(ctx)
}

// checkEarly gives up the copies of a result that is not the one in BuildKit's answer.
func (x *exports) checkEarly() {
	if x.early == "" || x.early == x.made.Content {
		return
	}
	x.wg.Wait()
	for i, copied := range x.copied {
		if copied {
			x.results[i], x.copied[i] = nil, false
		}
	}
}

// outcomes are one export for each cache of a destination, without outcomes yet.
func outcomes(d cacheplan.Destination) []Export {
	out := make([]Export, len(d.Caches))
	for n, c := range d.Caches {
		out[n] = Export{Cache: c.Name, Name: string(d.Name), Strict: c.Strict}
	}
	return out
}

// export runs one export solve, with the options and imports of the build, without outputs, and
// always without no-cache, which would run every step again.
func (x *exports) export(ctx context.Context, i int, d cacheplan.Destination) {
	began := time.Now()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	// A timer in place of a deadline, which gRPC would pass on to the daemon: the daemon's
	// error might come before the one of this run, which names the input.
	limit := x.run.Inputs.CacheTimeout
	if x.partial != nil {
		limit = min(limit, partialTimeout)
	}
	defer time.AfterFunc(limit, func() {
		defer crash.Catch()
		abort(fmt.Errorf("not done within %s (cache-timeout)", limit))
	}).Stop()
	response, err := x.send(ctx, i, d, abort)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = cause
	}
	x.sent[i] = response
	for n := range x.results[i] {
		x.results[i][n].Err = err
		x.results[i][n].Seconds = time.Since(began).Seconds()
	}
}

// send solves until the destination takes the export. Its blobs are sent once: a further try finds them.
func (x *exports) send(ctx context.Context, i int, d cacheplan.Destination, abort context.CancelCauseFunc) (*client.SolveResponse, error) {
	err := d.Prepare(ctx, x.watch.failed())
	for err == nil {
		response, failed := x.solve(ctx, i, d, abort)
		if failed == nil {
			return response, nil
		}
		err = d.Again(ctx, failed)
	}
	return nil, err
}

// solve runs an export solve, and aborts it when it would run a step.
func (x *exports) solve(ctx context.Context, i int, d cacheplan.Destination, abort context.CancelCauseFunc) (*client.SolveResponse, error) {
	began, t := time.Now(), x.run.target(x.mounts, x.imports)
	t.cacheExports = []client.CacheOptionsEntry{d.Entry}
	t.internal, t.export = !traced(ctx) && !x.run.Builder.Managed, true
	defer func() {
		x.run.time.Add(timing.Part{Name: "export cache" + destination(x.results[i]), Start: began, End: time.Now(), Span: t.span})
	}()
	watch := newWatch(t.session)
	t.watch = func(s *client.SolveStatus) {
		watch.update(s)
		if step := watch.ran(x.watch); step != "" {
			abort(fmt.Errorf("%w: %s would have run again", errChanged, step))
		}
	}
	if x.partial != nil {
		return x.run.solvePartial(ctx, t, x.partial)
	}
	response, err := x.run.solve(ctx, t)
	if err == nil && !t.internal {
		// All layers exist now. What is not told here is missing in lists of what a scope holds, and in nothing else.
		_, _ = x.run.provenance(ctx, t.ref)
	}
	return response, err
}

// cancel ends the exports in progress; afterwards wait reports the cause.
func (x *exports) cancel(cause error) {
	if x.stop != nil {
		x.stop(cause)
	}
}

// wait waits for every export and commits it, so that the sent cache becomes the scope's cache,
// with its record. When ctx ends it returns, and what is not committed by then is not written.
func (x *exports) wait(ctx context.Context) []Export {
	x.wg.Wait()
	var commits sync.WaitGroup
	for i, d := range x.destinations {
		switch {
		case x.results[i] == nil:
			x.results[i] = outcomes(d)
			x.decide(i, Skipped, errors.New("the build failed"))
		case x.results[i][0].Outcome != "": // unchanged, or refused
		default:
			commits.Go(func() {
				defer crash.Catch()
				x.commit(ctx, i, d)
			})
		}
	}
	commits.Wait()
	var all []Export
	for i, d := range x.destinations {
		x.tell(i, d)
		all = append(all, x.results[i]...)
	}
	if x.stop != nil {
		x.stop(nil)
	}
	if !x.began.IsZero() && slices.ContainsFunc(all, func(e Export) bool { return e.Outcome == Written || e.Outcome == Broken }) {
		x.seconds = time.Since(x.began).Seconds()
	}
	return all
}

// decide gives all caches of one destination the same outcome.
func (x *exports) decide(i int, o Outcome, err error) {
	for n := range x.results[i] {
		x.results[i][n].Outcome, x.results[i][n].Err = o, err
	}
}

// commit decides the outcomes of one destination. When no layer is cached, BuildKit sends no manifest
// to a registry.
func (x *exports) commit(ctx context.Context, i int, d cacheplan.Destination) {
	err := x.results[i][0].Err
	switch {
	case errors.Is(err, errChanged):
		x.decide(i, Skipped, err)
		return
	case err != nil:
		for n, err := range d.Failures(err) {
			x.results[i][n].Outcome, x.results[i][n].Err = Broken, refusal.Explain(err)
		}
		return
	case d.Entry.Type == "" && x.made.Image == "":
		x.decide(i, Skipped, errors.New("the image was not pushed"))
		return
	}
	made := x.made
	if d.Entry.Type != "" {
		made.Manifest, made.Given = manifestOf(x.sent[i]), cacheplan.GivenIn(x.sent[i].ExporterResponse)
	}
	if d.Answers && made.Manifest == "" {
		x.decide(i, Skipped, errNoLayer)
		return
	}
	x.write(ctx, i, func(ctx context.Context) []cacheplan.Committed { return d.Commit(ctx, made) })
}

// write writes the scopes of one destination, and decides its outcomes.
func (x *exports) write(ctx context.Context, i int, write commit) {
	began := time.Now()
	defer x.run.time.Start("write cache" + destination(x.results[i]))()
	x.decide(i, Written, nil)
	limit := x.run.Inputs.CacheTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not committed within %s (cache-timeout)", limit))
	defer cancel()
	for n, c := range write(ctx) {
		export := &x.results[i][n]
		export.Kept, export.From = c.Kept, string(c.From)
		if x.copied[i] {
			export.Seconds = time.Since(began).Seconds()
		}
		switch {
		case c.Err == nil && x.partial != nil:
			export.Err = cmp.Or(c.Note, errPartial)
		case c.Err == nil:
			export.Err = c.Note
		case errors.Is(c.Err, cacheplan.ErrEmpty):
			export.Outcome, export.Err = Skipped, errNoLayer
		case errors.Is(c.Err, ctx.Err()):
			export.Outcome, export.Err = Broken, context.Cause(ctx)
		default:
			export.Outcome, export.Err = Broken, refusal.Explain(c.Err)
		}
	}
}
