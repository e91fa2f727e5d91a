package solve

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/cachemiss"
	"github.com/warmlayer/warmlayer/internal/cachemounts"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/timing"
)

// Result is the result of a build. After a failure it has what is known.
type Result struct {
	Digest   digest.Digest     // the image or index; "" when none was made
	ImageID  digest.Digest     // its ID in an engine: the digest of its config, or of the image in containerd's store; of an index its digest
	Metadata map[string]string // BuildKit's exporter response, unchanged, and the keys that docker buildx adds
	Answer   string            // the frontend's answer to Inputs.Call, for standard output
	Steps    []Step            // in the order in which they began, each after its inputs
	Warnings []Warning         // BuildKit's, such as those of Dockerfile checks
	Failure  *Failure          // where in the Dockerfile the build failed; nil: not known
	Sources  []cacheplan.Source
	Exports  []Export
	Mounts   []cachemounts.Outcome // the cache mounts of steps that ran
	Misses   []cachemiss.Reason    // why the first steps that ran were not cached, one for each stage
	Phases   []Phase
	Parts    []timing.Part // where the time went, in more detail
	Traces   [][]byte      // BuildKit's spans, as its records have them, where the context has a span
	Images   []Image       // of the targets of bake files, which have no one image; nil: there are none
	Retried  string        // why the build ran a second time; "": it ran once
}

// Image is what a target of bake files made. Its fields are as in [Result].
type Image struct {
	Target          string
	Digest, ImageID digest.Digest
	Metadata        map[string]string
	Hits, Steps     int
}

// Outcome is the outcome of an export to one cache.
type Outcome string

// An export is unchanged when the cache has the same content already, and skipped when there is
// nothing to write, or when writing it would be wrong.
const (
	Written   Outcome = "written"
	Unchanged Outcome = "unchanged"
	Skipped   Outcome = "skipped"
	Broken    Outcome = "failed"
)

// Export is one destination cache, with its outcome.
type Export struct {
	Cache   string
	Name    string // of the scope; "" for a line of cache-to
	Outcome Outcome
	Err     error // why it failed, was skipped, or, when written, does not hold all of the build
	Strict  bool  // a failure fails the step
	Seconds float64
	Kept    cacheplan.Kept // what the scope holds of former builds, when written
	From    string         // the scope whose cache was copied; "": the build's own was written
}

// Phase is a part of the time that the build took. Phases may overlap.
type Phase struct {
	Name    string // "build", "push", "export cache"; "first build" of an attempt that failed
	Seconds float64
}

// Hits is the number of cached steps.
func (r Result) Hits() int {
	n := 0
	for _, s := range r.Steps {
		if s.Cached {
			n++
		}
	}
	return n
}

func (r *Result) phase(name string, seconds float64) {
	r.Phases = append(r.Phases, Phase{Name: name, Seconds: seconds})
}

// take stores what the status stream reported, and BuildKit's response if there is one. The span is
// that of the solve.
func (b *run) take(response *client.SolveResponse, w *watch, began time.Time, span [8]byte) {
	b.result.Steps, b.result.Warnings, b.result.Failure = w.steps(), slices.Clone(b.notes), nil
	known := map[Warning]bool{} // each platform has its own copy
	for _, warning := range w.sorted() {
		if w := b.warning(warning); !known[w] {
			known[w] = true
			b.result.Warnings = append(b.result.Warnings, w)
		}
	}
	b.result.Warnings = append(b.result.Warnings, w.clipped(b.Builder.Managed)...)
	for _, s := range b.result.Steps {
		if !s.Cached {
			b.recall.miss(s.Digest)
		}
	}
	existed := w.layersAt(cmp.Or(b.handedOver, time.Now()))
	b.result.phase("build", existed.Sub(began).Seconds())
	b.time.Add(timing.Part{Name: "build", Kind: timing.Sum, Start: began, End: existed, Span: span})
	b.time.Add(w.parts(b.Builder.Managed)...)
	if w.Pushed() || !b.handedOver.IsZero() {
		b.result.phase("push", time.Since(existed).Seconds())
	}
	if response == nil {
		return
	}
	b.result.Metadata = map[string]string{}
	maps.Copy(b.result.Metadata, response.ExporterResponse)
	if !holdsImage(b.Inputs.Outputs) {
		// The image was made for the cache only, and stays in the builder.
		maps.DeleteFunc(b.result.Metadata, func(k, _ string) bool { return strings.HasPrefix(k, "containerimage.") })
	}
	b.result.Digest = digest.Digest(b.result.Metadata[exptypes.ExporterImageDigestKey])
	b.result.ImageID = digest.Digest(b.result.Metadata[exptypes.ExporterImageConfigDigestKey])
	if b.result.ImageID == "" || b.indexes {
		b.result.ImageID = b.result.Digest
	}
	if b.indexes && b.Builder.Inside != nil {
		delete(b.result.Metadata, exptypes.ExporterImageConfigDigestKey) // as in buildx, since the engine does not know it (build/build.go)
	}
}
