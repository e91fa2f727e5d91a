package cacheplan

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/moby/buildkit/util/compression"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// Known is what the caches that were read have of a build all of whose steps were cached: the part by
// which a build finds its results. It is what an export of the build would send.
type Known struct {
	cache cachegraph.Merged
	sent  gateway.Sent
}

// Known is the part of this attempt's import by which a build finds results, each given as the layers
// of an image that was made. It is nil where that is not known: on a remote builder, which has a cache of
// its own; with lines of cache-from, which BuildKit alone reads; where blobs are lost; and where an image has
// other layers than the cache, because they were compressed again. The build may still be running.
func (r *Reads) Known(ctx context.Context, results [][]digest.Digest) *Known {
	if r.gateway == nil || len(r.imports) != 1 || len(r.leftOut) > 0 || r.failed > 0 {
		return nil
	}
	whole, ok := r.imports[0].whole()
	if !ok {
		return nil
	}
	part, ok := whole.Behind(results)
	if !ok {
		return nil
	}
	m, err := backends.NewManifest(part.JSON, compression.ConvertAllLayerMediaTypes(ctx, true, part.Layers...), backends.Record{})
	if err != nil {
		return nil
	}
	return &Known{cache: part, sent: gateway.Sent{Manifest: m, Config: part.JSON}}
}

// whole is the cache that BuildKit got by this import. It is false where that is not known, or not
// all of the sources' caches.
func (i imports) whole() (cachegraph.Cache, bool) {
	if i.merged != nil {
		return i.merged.whole()
	}
	s := i.sources[0]
	if s.own || s.reading.Verify() != nil {
		return cachegraph.Cache{}, false
	}
	c, err := cachegraph.Parse(s.reading.Config, s.reading.Manifest.Layers)
	return c, err == nil
}

// whole is the merged cache. It is false while that is not known, and where it is not all of its parts.
func (m *merged) whole() (cachegraph.Cache, bool) {
	select {
	case <-m.done:
	default:
		return cachegraph.Cache{}, false
	}
	if m.err != nil || slices.ContainsFunc(m.parts, func(p part) bool { return p.reduced != nil }) {
		return cachegraph.Cache{}, false
	}
	c, err := cachegraph.Parse(m.cache.Config, m.cache.Manifest.Layers)
	return c, err == nil
}

// merge makes what is known of the build the scope's cache, in place of an export, with what the scope keeps
// of former builds; nil: an export would write something else, or the store may lack a layer. Only the
// config and the manifest are sent.
func (w written) merge(store backends.Store, e Exported, k *Known) func(context.Context) Committed {
	if k == nil || w.keep.Variants == 0 || !w.reached() || errors.As(w.own.Err, new(backends.Withheld)) || !exportsAsRead(w.options) {
		return nil
	}
	used, there := w.used(k)
	if _, complete := store.(backends.Complete); !there || !complete && time.Since(used) >= fresh {
		return nil
	} else if !complete {
		e.Time = used // nothing renews the blobs
	}
	return func(ctx context.Context) Committed { return w.write(ctx, store, k.sent, nil, e, nil) }
}

// holds reports whether the scope has what is known of the build, and has not had it for long.
func (w written) holds(e Exported, k *Known) bool {
	if w.keep.Variants == 0 || w.own == nil || w.own.Verify() != nil || !exportsAsRead(w.options) {
		return false
	}
	own, err := cachegraph.Parse(w.own.Config, w.own.Manifest.Layers)
	if err != nil || !holdsAll(own.Layers, k.cache.Layers) {
		return false
	}
	e.Time = time.Now().Add(-fresh)
	build := w.buildOf(e)
	out, err := cachegraph.Accumulate(k.cache.Cache, build, own, w.keep)
	if err != nil || !out.Held {
		return false
	}
	w.exported(k.cache.Cache, build)
	return true
}

// exportsAsRead reports whether an export with the options has all steps, and the layers and the form
// that a cache has in the gateway.
func exportsAsRead(options map[string]string) bool {
	is := func(option string, value bool) bool {
		given, err := strconv.ParseBool(options[option])
		return err == nil && given == value
	}
	return options["mode"] == "max" && !is("force-compression", true) && !is("oci-mediatypes", false) && !is("image-manifest", false)
}

// used is when the known layer was exported that has not been for longest. It is false unless scopes of
// this cache that were read have all of them.
func (w written) used(k *Known) (oldest time.Time, there bool) {
	last := map[digest.Digest]time.Time{}
	for _, r := range append([]*backends.Reading{w.own}, w.others...) {
		if r.Verify() != nil {
			continue
		}
		c, err := cachegraph.Parse(r.Config, r.Manifest.Layers)
		if err != nil {
			continue
		}
		if len(c.Builds) == 0 {
			c = c.Foreign(cachegraph.Build{Time: r.Manifest.Record.Time})
		}
		for d, at := range c.Used() {
			if at.After(last[d]) {
				last[d] = at
			}
		}
	}
	oldest = time.Now()
	for _, l := range k.cache.Layers {
		at, known := last[l.Digest]
		if !known {
			return time.Time{}, false
		}
		if at.Before(oldest) {
			oldest = at
		}
	}
	return oldest, true
}

// holdsAll reports whether some layers include others.
func holdsAll(layers, others []ocispecs.Descriptor) bool {
	have := map[digest.Digest]bool{}
	for _, l := range layers {
		have[l.Digest] = true
	}
	return !slices.ContainsFunc(others, func(l ocispecs.Descriptor) bool { return !have[l.Digest] })
}
