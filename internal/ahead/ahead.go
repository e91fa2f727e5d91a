// Package ahead does, while the steps of a build run, what the build needs later: it compresses the layers of
// steps that have run, and fetches and unpacks the layers of caches that later steps stand on. BuildKit begins with
// the one after the last step, and with the other when nothing else is missing. Nothing depends on this package:
// what fails here is done, or fails, later.
//
//	a := ahead.Begin(ctx, builder, steps, ahead.Options{Image: gzip, Cache: ofCache, Unpack: true})
//	defer a.End()
//	a.Planned(graph) // of the frontend, before anything of it is made
//	a.Update(status)       // of the build, in order
package ahead

import (
	"context"
	"maps"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/llbgraph"
)

// Builder makes requests of their own on the build's builder. They share the steps of the build.
type Builder interface {
	// Export makes an image of a definition's result, which stays in the daemon without a name.
	Export(ctx context.Context, def *llb.Definition, attrs map[string]string) error
	// Ask calls a function with a client of BuildKit's gateway, which answers until the function returns.
	Ask(ctx context.Context, ask func(context.Context, gw.Client)) error
	// Time begins a part of the run for its timings, and returns the function that ends it.
	Time(name string) (end func())
}

// Steps is what the build's status stream has said so far.
type Steps interface {
	Name(step digest.Digest) string    // as BuildKit shows it; "": unknown
	Executed(step digest.Digest) bool  // it has run to its end, and was not cached
	Running(step digest.Digest) bool   // it has begun to run, and was not cached
	Cached(step digest.Digest) bool    // a cache has its result
	Unpacking(step digest.Digest) bool // it was cached, and its layers have been fetched and are being unpacked
	Pushed() bool                      // the image has been made
}

// Options say what is done ahead. The zero value: nothing.
type Options struct {
	Image  Compression        // of the image's layers; nil: unknown, so nothing is compressed
	Cache  func() Compression // of those that are in no image; it may wait, and gives nil where no cache holds them
	Unpack bool               // unpack the layers of caches; all caches have the layers of every step
}

// Compression is a set of options of BuildKit's exports: "compression", "compression-level",
// "force-compression"; nil: unknown, or none.
type Compression map[string]string

// CompressionOf is the compression in the attributes of an export; nil where these are nil.
func CompressionOf(attrs map[string]string) Compression {
	if attrs == nil {
		return nil
	}
	return compressionOf(attrs)
}

func compressionOf(attrs map[string]string) Compression {
	c := Compression{"compression": "gzip"}
	for _, key := range []string{"compression", "compression-level", "force-compression"} {
		if v := attrs[key]; v != "" {
			c[key] = v
		}
	}
	return c
}

// ImageCompression is that of all images among the exports; nil: they differ, and BuildKit gives the layers the one
// that is asked for first.
func ImageCompression(exports []client.ExportEntry) Compression {
	var all Compression
	for _, e := range exports {
		if e.Type == client.ExporterLocal || e.Type == client.ExporterTar {
			continue
		}
		c := compressionOf(e.Attrs)
		if all != nil && !maps.Equal(all, c) {
			return nil
		}
		all = c
	}
	return all
}

// Ahead is the work that is done ahead of one build.
type Ahead struct {
	builder Builder
	steps   Steps
	options Options

	within context.Context //nolint:containedctx // of the work, until End
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	plan   llbgraph.Graph
	images map[llbgraph.Output]bool // what the image has the layers of
	asked  map[llbgraph.Output]bool // what is compressed, or was
	queues [2]queue                 // of the image's layers, and of the cache's

	unpacks unpacks
}

// Begin prepares the work. End has to be called.
func Begin(ctx context.Context, b Builder, s Steps, o Options) *Ahead {
	a := &Ahead{builder: b, steps: s, options: o, asked: map[llbgraph.Output]bool{}, unpacks: newUnpacks()}
	a.within, a.stop = context.WithCancel(ctx)
	return a
}

// Planned takes what the frontend wants to be done.
func (a *Ahead) Planned(plan llbgraph.Graph) {
	if a.options.Image == nil && !a.options.Unpack {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.plan, a.images = plan, plan.Layers(plan.Results...)
}

// Update begins what a status of the build makes possible. The steps know of it already.
func (a *Ahead) Update(s *client.SolveStatus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range s.Vertexes {
		executed := a.steps.Executed(v.Digest)
		if executed || a.steps.Running(v.Digest) {
			a.runs(v.Digest)
		}
		if executed {
			a.ran(v.Digest)
		}
	}
	for _, status := range s.Statuses {
		if a.steps.Unpacking(status.Vertex) {
			a.unpacking(status.Vertex)
		}
	}
	a.last()
}

// End waits until nothing is done any more; what has not ended is cancelled.
func (a *Ahead) End() {
	a.stop()
	a.wg.Wait()
}
