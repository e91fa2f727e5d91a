package cacheplan

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/scope"
)

// Exported is the result of a build, as far as it is known when its cache is exported.
type Exported struct {
	Content  string        // identifies the result's content; see [backends.ResultKey]
	Image    digest.Digest // the image or index; "" when none was made
	Manifest digest.Digest // the cache manifest that BuildKit sent; "" before, and for an inline cache
}

// Destination is one export of a build's cache. BuildKit sends the cache once to each destination,
// which may write it to several caches.
type Destination struct {
	Name   scope.Name // "" for a line of cache-to
	Caches []Cache    // at least one
	// Entry is BuildKit's export entry. Its Type is "" for an inline cache, which is sent with the
	// image.
	Entry client.CacheOptionsEntry
	// Answers tells whether BuildKit's response names the manifest that it has sent. An export
	// without one in the response has then sent nothing.
	Answers bool
	// Refused says why the scope must not be sent; nil: it may be.
	Refused error
	// Broken says why an export would fail, so that none is begun; nil where that is not known.
	Broken error

	target  target                      // nil: the export needs no commit
	prepare func(context.Context) error // nil: there is nothing to do
}

// Cache is one cache of a destination.
type Cache struct {
	Name   string // for people: "registry ghcr.io/o/app"
	Strict bool   // a failure fails the step
}

// target is the part of a destination that compares and commits.
type target interface {
	unchanged(Exported) bool
	commit(context.Context, Exported) []error
}

// Unchanged reports whether every cache of the destination has this export already. It waits until
// the scopes that were read are verified.
func (d Destination) Unchanged(e Exported) bool {
	return d.target != nil && d.target.unchanged(e)
}

// Prepare makes the place ready for the export. BuildKit's own exporters keep what is there, so
// what is damaged is removed before. Call it before an export begins.
func (d Destination) Prepare(ctx context.Context) error {
	if d.prepare == nil {
		return nil
	}
	return d.prepare(ctx)
}

// Commit makes the sent cache the scope's cache, with a record. It returns one error or nil for
// each of Caches. Call it only after a successful export.
func (d Destination) Commit(ctx context.Context, e Exported) []error {
	if d.target == nil {
		return make([]error, len(d.Caches))
	}
	return d.target.commit(ctx, e)
}

// Failures are the errors of an export that failed with err, one for each of Caches: the cache's
// own where it has one, since BuildKit wraps it in an answer of the gateway.
func (d Destination) Failures(err error) []error {
	all := slices.Repeat([]error{err}, len(d.Caches))
	if g, ok := d.target.(*group); ok {
		for n, own := range g.fanout.Failures() {
			all[n] = cmp.Or(own, err)
		}
	}
	return all
}

// written is a scope of a cache that is written.
type written struct {
	scope   scope.Name
	options map[string]string // the export options that determine the content of the cache
	record  backends.Record   // without time and result
	own     *backends.Reading // of the same scope and cache; nil: it was not read
}

func (w written) unchanged(e Exported) bool {
	return w.own != nil && w.own.Verify() == nil &&
		w.own.Manifest.Record.Unchanged(backends.ResultKey(w.options, e.Content), time.Now())
}

// recordOf is the record of an export that ends now.
func (w written) recordOf(e Exported) backends.Record {
	r := w.record
	r.Time, r.Result = time.Now(), backends.ResultKey(w.options, e.Content)
	return r
}

// group is several caches that receive one export through the gateway.
type group struct {
	options map[string]string
	caches  []Cache
	stores  []backends.Store
	scopes  []written // one for each cache
	fanout  *gateway.Fanout
}

// join adds a cache to the group with the same export options, or makes a new group.
func join(groups []*group, cache backends.GatewayWritten, name Cache, w written) []*group {
	options := cache.Options()
	var g *group
	for _, other := range groups {
		if maps.Equal(other.options, options) {
			g = other
		}
	}
	if g == nil {
		g = &group{options: options}
		groups = append(groups, g)
	}
	w.options = options
	g.caches, g.stores, g.scopes = append(g.caches, name), append(g.stores, cache.Destination()), append(g.scopes, w)
	return groups
}

func (g *group) destination(r Request) Destination {
	g.fanout = r.Gateway.Accept(g.stores, r.expected(), r.Timeout/2)
	attrs := maps.Clone(g.options)
	attrs["ref"] = g.fanout.Ref(r.Scopes.Write)
	return Destination{
		Name: r.Scopes.Write, Caches: g.caches, Answers: true,
		Entry:  client.CacheOptionsEntry{Type: "registry", Attrs: attrs},
		target: g,
	}
}

func (g *group) unchanged(e Exported) bool {
	for _, w := range g.scopes {
		if !w.unchanged(e) {
			return false
		}
	}
	return true
}

func (g *group) commit(ctx context.Context, e Exported) []error {
	w := g.scopes[0] // all write the same record
	return g.fanout.Commit(ctx, w.scope, w.recordOf(e), fit)
}

// ErrEmpty says that BuildKit wrote an empty cache, in place of which the scope's cache was put back.
var ErrEmpty = errors.New("the cache is empty")

// native is a cache that BuildKit writes itself. The record is attached afterwards, unless another
// build has replaced the cache since.
type native struct {
	written
	store backends.Scopes
}

func (n native) commit(ctx context.Context, e Exported) []error {
	err := n.attachRecord(ctx, e)
	var reduced *Reduced
	if err != nil && !errors.As(err, &reduced) {
		err = fmt.Errorf("attach the scope's record: %w", err)
	}
	return []error{err}
}

// attachRecord returns a [Reduced] when it has also left out results, so that BuildKit can import
// the cache.
func (n native) attachRecord(ctx context.Context, e Exported) error {
	m, err := n.store.Manifest(ctx, n.scope)
	var withheld backends.Withheld
	if errors.As(err, &withheld) {
		return nil // without permission to read the scope no record can be attached
	}
	if err != nil {
		return err
	}
	if e.Manifest != "" && m.Descriptor().Digest != e.Manifest {
		return nil // another build has written its cache since, which gets its own record
	}
	if len(m.Layers) == 0 && n.own != nil && n.own.Verify() == nil && len(n.own.Manifest.Layers) > 0 {
		return errors.Join(ErrEmpty, n.restore(ctx))
	}
	m, note, err := n.fitted(ctx, m)
	if err != nil {
		return errors.Join(err, n.restore(ctx))
	}
	if m, err = m.WithRecord(n.recordOf(e)); err != nil {
		return err
	}
	if err := n.store.PutManifest(ctx, n.scope, m); err != nil {
		return err
	}
	return note
}

// harmless is the size in bytes up to which a cache config cannot expand beyond the bounds of
// what is read: each layer takes about 100 bytes, and each record with a result 150.
const harmless = 100_000

// fitted is a cache that BuildKit wrote, without the results that are too many for BuildKit to
// import. Its config is already in the store. BuildKit imports a config of any size from stores
// of objects.
func (n native) fitted(ctx context.Context, m backends.Manifest) (_ backends.Manifest, note, err error) {
	store, ok := n.store.(backends.Store)
	if !ok || m.Config.Size <= harmless {
		return m, nil, nil
	}
	sent := gateway.Sent{Manifest: m}
	sent.Config, err = backends.ReadBlob(ctx, store, m.Config, backends.MaxManifest)
	if err != nil && m.Config.Size <= backends.MaxConfig {
		return m, nil, nil // BuildKit imports it; only its bounds are not known
	}
	if err != nil {
		return m, nil, err
	}
	out, note, err := fit(sent, nil)
	if err != nil || note == nil {
		return m, nil, err
	}
	return out.Manifest, note, store.Put(ctx, out.Manifest.Config, bytes.NewReader(out.Config))
}

// restore makes the cache that was read before the build the scope's again.
func (n native) restore(ctx context.Context) error {
	if n.own == nil || n.own.Verify() != nil {
		return nil
	}
	return n.store.PutManifest(ctx, n.scope, n.own.Manifest)
}

// tagged is an inline cache, which was pushed with the image.
type tagged struct {
	written
	cache backends.ImageTagged
}

func (t tagged) unchanged(e Exported) bool {
	return t.own != nil && t.own.Verify() == nil && t.own.Manifest.Descriptor().Digest == e.Image
}

func (t tagged) commit(ctx context.Context, e Exported) []error {
	return []error{t.cache.Tag(ctx, t.scope, e.Image.String())}
}
