package solve

import (
	"context"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/ahead"
)

// beside makes requests beside a build solve, for [ahead]. They are not shown.
type beside struct {
	run    *run
	mounts mounts
}

func (b *run) ahead(ctx context.Context, m mounts, w *watch, outputs []client.ExportEntry) *ahead.Ahead {
	cache := func() ahead.Compression { return ahead.CompressionOf(b.Caches.AllSteps()) }
	o := ahead.Options{Image: ahead.ImageCompression(outputs), Cache: cache, Unpack: b.Caches.Whole && b.Mounts == nil}
	if b.graphDriver() {
		o = ahead.Options{}
	}
	return ahead.Begin(ctx, beside{b, m}, w, o)
}

func (b beside) target() target {
	t := b.run.target(b.mounts, nil)
	t.internal, t.watch = true, func(*client.SolveStatus) {}
	return t
}

// Export implements [ahead.Builder].
func (b beside) Export(ctx context.Context, def *llb.Definition, attrs map[string]string) error {
	t := b.target()
	t.exports = []client.ExportEntry{{Type: client.ExporterImage, Attrs: attrs}}
	_, err := b.run.define(ctx, t, def)
	return err
}

// Ask implements [ahead.Builder].
func (b beside) Ask(ctx context.Context, ask func(context.Context, gw.Client)) error {
	_, err := b.run.gateway(ctx, b.target(), nil, func(ctx context.Context, c gw.Client) (*gw.Result, error) {
		ask(ctx, c)
		return gw.NewResult(), nil
	})
	return err
}

// Time implements [ahead.Builder].
func (b beside) Time(name string) (end func()) { return b.run.time.Start(name) }

// Name implements [ahead.Steps].
func (w *watch) Name(step digest.Digest) string {
	name, _ := w.said(step)
	return name
}

// Running implements [ahead.Steps].
func (w *watch) Running(step digest.Digest) bool {
	return w.is(step, func(v *vertex) bool { return !v.first.IsZero() && !v.completed && !v.cached })
}

// Cached implements [ahead.Steps].
func (w *watch) Cached(step digest.Digest) bool {
	return w.is(step, func(v *vertex) bool { return v.cached })
}

// Unpacking implements [ahead.Steps].
func (w *watch) Unpacking(step digest.Digest) bool {
	return w.is(step, func(v *vertex) bool { return v.cached && v.unpacking() })
}
