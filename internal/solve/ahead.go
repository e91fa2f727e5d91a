package solve

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/moby/buildkit/client"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/llbgraph"
)

// ahead compresses layers while the build goes on. BuildKit compresses the layers of an image after the
// last step, and those of the cache after the image. Here a layer is compressed as soon as its step has run:
// as the image's or, where it is in no image, as the cache's. It is done by exports of an image that stays in the
// daemon without a name: BuildKit compresses a layer once, whoever asks, and those who ask later wait for it or find
// it (v0.34.2, cache/blobs.go, computeBlobChain). Nothing depends on it: what fails here is done, or fails, later.
type ahead struct {
	run    *run
	mounts mounts
	watch  *watch
	image  compression
	cache  compression // the zero value: no cache holds layers that are in no image

	within context.Context //nolint:containedctx // of the compressions, until stop
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	plan   llbgraph.Graph
	images map[llbgraph.Output]bool // what the image has the layers of
	asked  map[llbgraph.Output]bool
	queues [2]queue // of the image's layers, and of the cache's
}

// queue are outputs whose layers are compressed in the same way.
type queue struct {
	waiting []llbgraph.Output
	running int
}

// compression is a set of options of BuildKit's exports: "compression", "compression-level",
// "force-compression"; nil: unknown, or none.
type compression map[string]string

func compressionOf(attrs map[string]string) compression {
	c := compression{"compression": "gzip"}
	for _, key := range []string{"compression", "compression-level", forceCompression} {
		if v := attrs[key]; v != "" {
			c[key] = v
		}
	}
	return c
}

// maxAhead is how many compressions of a queue run at once. BuildKit compresses the layers of one beside each other.
const maxAhead = 2

func newAhead(ctx context.Context, b *run, m mounts, w *watch, outputs []client.ExportEntry) *ahead {
	a := &ahead{run: b, mounts: m, watch: w, asked: map[llbgraph.Output]bool{}}
	a.within, a.stop = context.WithCancel(ctx)
	for _, e := range outputs {
		if e.Type == client.ExporterLocal || e.Type == client.ExporterTar {
			continue
		}
		c := compressionOf(e.Attrs)
		if a.image != nil && !maps.Equal(a.image, c) {
			a.image = nil // BuildKit gives the layers the one that is asked for first
			return a
		}
		a.image = c
	}
	at := slices.IndexFunc(b.Caches.Destinations, func(d cacheplan.Destination) bool {
		return d.Refused == nil && d.Broken == nil && d.Entry.Attrs["mode"] == "max"
	})
	if at >= 0 {
		a.cache = compressionOf(b.Caches.Destinations[at].Entry.Attrs)
	}
	return a
}

// planned takes what the frontend wants to be done.
func (a *ahead) planned(ctx context.Context, r *gw.Result) {
	if a.image == nil {
		return
	}
	plan, err := llbgraph.Read(ctx, r)
	if err != nil {
		return // of a builder that does not tell, or of LLB that is not understood
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.plan, a.images = plan, plan.Layers(plan.Results...)
}

// update begins to compress the layers of the steps that have just run.
func (a *ahead) update(s *client.SolveStatus) {
	for _, v := range s.Vertexes {
		if v.Completed != nil && v.Error == "" && a.watch.executed(v.Digest) {
			a.ran(v.Digest)
		}
	}
}

func (a *ahead) ran(step digest.Digest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.plan.Outputs(step) {
		if a.asked[o] || !a.images[o] && a.cache == nil {
			continue
		}
		a.asked[o] = true
		q := &a.queues[0]
		if !a.images[o] {
			q = &a.queues[1]
		}
		// One compression does all layers of an output.
		under := a.plan.Layers(o)
		q.waiting = append(slices.DeleteFunc(q.waiting, func(w llbgraph.Output) bool { return under[w] }), o)
		a.next(q)
	}
}

// next begins what may begin.
func (a *ahead) next(q *queue) {
	for len(q.waiting) > 0 && q.running < maxAhead && a.within.Err() == nil && !a.watch.pushed() {
		o := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.running++
		a.wg.Go(func() {
			defer crash.Catch()
			a.compress(o)
			a.mu.Lock()
			defer a.mu.Unlock()
			q.running--
			a.next(q)
		})
	}
}

// compress compresses the layers of an output. The image's layers below a layer of the cache are the image's.
func (a *ahead) compress(o llbgraph.Output) {
	name, _ := a.watch.said(o.Step)
	defer a.run.time.Start("compress " + name)()
	if a.images[o] {
		a.export(o, a.image)
		return
	}
	for _, under := range a.plan.Meets(o, a.images) {
		if a.executed(under) && !a.export(under, a.image) {
			return
		}
	}
	a.export(o, a.cache)
}

// executed tells whether a step of an output's layers has run; the other layers are compressed already.
func (a *ahead) executed(o llbgraph.Output) bool {
	for layer := range a.plan.Layers(o) {
		if a.watch.executed(layer.Step) {
			return true
		}
	}
	return false
}

// export makes an image of an output, and reports whether it has.
func (a *ahead) export(o llbgraph.Output, c compression) bool {
	def, err := a.plan.Definition(o)
	if err != nil {
		return false
	}
	t := a.run.target(a.mounts, nil)
	t.internal, t.watch = true, func(*client.SolveStatus) {}
	t.exports = []client.ExportEntry{{Type: client.ExporterImage, Attrs: maps.Clone(c)}}
	t.exports[0].Attrs["oci-mediatypes"] = "true" // which all compressions can be in
	_, err = a.run.define(a.within, t, def)
	return err == nil
}

// end waits until nothing is compressed any more; what has not ended is cancelled.
func (a *ahead) end() {
	a.stop()
	a.wg.Wait()
}
