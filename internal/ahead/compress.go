package ahead

import (
	"maps"
	"slices"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/llbgraph"
)

// BuildKit compresses the layers of an image after the last step, and those of the cache after the image. Here a
// layer is compressed as soon as its step has run: as the image's or, where it is in no image, as the cache's. It
// is done by exports of an image: BuildKit compresses a layer once, whoever asks, and those who ask later wait for
// it or find it (v0.34.2, cache/blobs.go, computeBlobChain).

// queue are outputs whose layers are compressed in the same way.
type queue struct {
	waiting []llbgraph.Output
	running int
}

// maxCompressions is how many compressions of a queue run at once. BuildKit compresses the layers of one beside
// each other.
const maxCompressions = 2

// ran begins to compress the layers of a step that has run.
func (a *Ahead) ran(step digest.Digest) {
	if a.options.Image == nil {
		return
	}
	for _, o := range a.plan.Outputs(step) {
		if a.asked[o] {
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
func (a *Ahead) next(q *queue) {
	for len(q.waiting) > 0 && q.running < maxCompressions && a.within.Err() == nil && !a.steps.Pushed() {
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
func (a *Ahead) compress(o llbgraph.Output) {
	c := a.options.Image
	if !a.images[o] {
		if c = a.options.Cache(); c == nil {
			return
		}
	}
	defer a.builder.Time("compress " + a.steps.Name(o.Step))()
	if a.images[o] {
		a.export(o, c)
		return
	}
	for _, under := range a.plan.Meets(o, a.images) {
		if a.executed(under) && !a.export(under, a.options.Image) {
			return
		}
	}
	a.export(o, c)
}

// executed tells whether a step of an output's layers has run; the other layers are compressed already.
func (a *Ahead) executed(o llbgraph.Output) bool {
	for layer := range a.plan.Layers(o) {
		if a.steps.Executed(layer.Step) {
			return true
		}
	}
	return false
}

// export makes an image of an output, and reports whether it has.
func (a *Ahead) export(o llbgraph.Output, c Compression) bool {
	def, err := a.plan.Definition(o)
	if err != nil {
		return false
	}
	attrs := maps.Clone(c)
	attrs["oci-mediatypes"] = "true" // which all compressions can be in
	return a.builder.Export(a.within, def, attrs) == nil
}
