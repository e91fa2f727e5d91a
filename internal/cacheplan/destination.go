package cacheplan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
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
	Hits     int           // steps that were cached
	Steps    int           // all steps
	Manifest digest.Digest // the cache manifest that BuildKit sent; "" before, and for an inline cache

	Images []digest.Digest // the manifests of the images, without attestations; none where they are not known
	Time   time.Time       // when its blobs were last sent; the zero value: now

	// Memory is what is to be remembered of the build, and is called when it is written; nil: nothing.
	Memory func() []byte

	Blobs content.Provider // gives what a builder has sent of its own; nil: nothing does
	Given Given            // what BuildKit gave in its answer, in place of sending it
}

// Given are a cache's manifest and config. The zero value: the store has them.
type Given struct{ Manifest, Config string }

// What the image's daemon calls them in its answer, where the export has the attribute ([giveBack]; internal/patch/giveback.go).
const (
	giveBack      = "give-back"
	givenManifest = "cache.manifest.content"
	givenConfig   = "cache.config"
)

// GivenIn are those of BuildKit's answer to an export.
func GivenIn(answer map[string]string) Given {
	return Given{answer[givenManifest], answer[givenConfig]}
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

	target  target                                       // nil: the export needs no commit
	prepare func(context.Context, []digest.Digest) error // nil: there is nothing to do
	locking backends.Locking                             // nil: BuildKit's export needs no lock
}

// Cache is one cache of a destination.
type Cache struct {
	Name   string // for people: "registry ghcr.io/o/app"
	Strict bool   // a failure fails the step
}

// target is the part of a destination that compares and commits.
type target interface {
	unchanged(Exported) bool
	holds(Exported, *Known) bool
	// copy and merge are functions in place of commit, and of the export; nil: an export is needed.
	copy(Exported) func(context.Context) []Committed
	merge(Exported, *Known) func(context.Context) []Committed
	commit(context.Context, Exported) []Committed
	adds() bool
}

// Unchanged reports whether every cache of the destination has this export already. It waits until
// the scopes that were read are verified.
func (d Destination) Unchanged(e Exported) bool {
	return d.target != nil && d.target.unchanged(e)
}

// Holds reports whether every cache of the destination has what is known of the build in the scope that is
// written, as a build of the same variant which is not old: another label makes another image of the same steps.
func (d Destination) Holds(e Exported, k *Known) bool {
	return d.target != nil && k != nil && d.target.holds(e, k)
}

// Copy is a function that makes the cache of another scope the scope's cache, with a record, in place of
// an export and Commit. It returns one outcome for each of Caches. It is nil unless each cache has this
// export in another scope that was read, and nothing in the scope that is written.
func (d Destination) Copy(e Exported) func(context.Context) []Committed {
	if d.target == nil {
		return nil
	}
	return d.target.copy(e)
}

// Merge is a function that makes what is known of the build the scope's cache, with a record and with what
// the scope keeps of builds before, in place of an export and Commit. It returns one outcome for each of
// Caches. It is nil unless an export would write the same to each cache, whose store has all layers.
func (d Destination) Merge(e Exported, k *Known) func(context.Context) []Committed {
	if d.target == nil || k == nil {
		return nil
	}
	return d.target.merge(e, k)
}

// Adds reports whether the scope keeps what is in it when an export is committed, so that a part of a build
// can be exported. It is false where BuildKit itself replaces the scope, where former builds are not kept, for a
// line of cache-to, and for an inline cache, which needs an image.
func (d Destination) Adds() bool { return d.target != nil && d.Entry.Type != "" && d.target.adds() }

// Prepare makes the place ready for the export. BuildKit's own exporters keep what is there, so
// what is damaged is removed before. The errors are those of steps whose layers BuildKit could not
// get from a cache. Call it before an export begins.
func (d Destination) Prepare(ctx context.Context, errs []string) error {
	if d.prepare == nil {
		return nil
	}
	return d.prepare(ctx, lostIn(errs))
}

// Again decides what follows an export that failed with err: nil means that it may be tried again now.
// BuildKit's client does not wait for the lock of a directory's index; Again waits until no process
// holds it. The error is err for every other failure, and says who holds the lock where ctx ends first.
func (d Destination) Again(ctx context.Context, err error) error {
	if d.locking == nil || !d.locking.Held(err) {
		return err
	}
	return d.locking.Unlocked(ctx)
}

// Commit makes the sent cache the scope's cache, with a record and with what the scope keeps of
// builds before. It returns one outcome for each of Caches. Call it only after a successful export.
func (d Destination) Commit(ctx context.Context, e Exported) []Committed {
	if d.target == nil {
		return make([]Committed, len(d.Caches))
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

// ErrEmpty says that BuildKit wrote an empty cache, in place of which the scope's cache was put back.
var ErrEmpty = errors.New("the cache is empty")

// native is a cache that BuildKit writes itself.
type native struct {
	written
	store    backends.Scopes
	untagged bool // BuildKit's manifest has no name; see [backends.Registry].Untagged
}

func (n native) holds(e Exported, k *Known) bool { return n.untagged && n.written.holds(e, k) }

func (n native) adds() bool { return n.untagged && n.keep.Variants > 0 }

func (n native) copy(e Exported) func(context.Context) []Committed {
	if !n.untagged {
		return nil
	}
	return alone(n.written.copy(n.store.(backends.Store), e))
}

func (n native) merge(e Exported, k *Known) func(context.Context) []Committed {
	if !n.untagged {
		return nil
	}
	return alone(n.written.merge(n.store.(backends.Store), e, k))
}

// alone is the function of a destination with one cache.
func alone(write func(context.Context) Committed) func(context.Context) []Committed {
	if write == nil {
		return nil
	}
	return func(ctx context.Context) []Committed { return []Committed{write(ctx)} }
}

func (n native) commit(ctx context.Context, e Exported) []Committed {
	out, doing := n.finish(ctx, e)
	if out.Err != nil && !errors.Is(out.Err, ErrEmpty) {
		out.Err = fmt.Errorf("%s: %w", doing, out.Err)
	}
	return []Committed{out}
}

// What a native cache still needs when BuildKit has written it.
const (
	attaching = "attach the scope's record"
	uniting   = "write the scope's cache" // with former builds, or reduced to what BuildKit imports
)

// finish writes what BuildKit has sent as the scope's cache, with its record and what the scope
// keeps of former builds. Where BuildKit has written the scope itself and another build has replaced
// it since, that build's cache stays. It also tells what it did, for an error.
func (n native) finish(ctx context.Context, e Exported) (out Committed, doing string) {
	m, err := n.sent(ctx, e)
	var withheld backends.Withheld
	switch {
	case errors.As(err, &withheld):
		return Committed{}, attaching // without permission to read the scope no record can be attached
	case err != nil:
		return Committed{Err: err}, attaching
	case e.Manifest != "" && m.Descriptor().Digest != e.Manifest:
		return Committed{}, attaching // another build has written its cache since, which gets its own record
	case len(m.Layers) == 0 && n.own != nil && n.own.Verify() == nil && len(n.own.Manifest.Layers) > 0:
		return Committed{Err: errors.Join(ErrEmpty, n.restore(ctx))}, uniting
	}
	store, ok := n.store.(backends.Store)
	if !ok {
		return Committed{Err: n.attach(ctx, m, e)}, attaching
	}
	config, err := n.config(ctx, store, m, e.Given)
	var fitted gateway.Sent
	var note error
	if err == nil {
		var lost map[digest.Digest]error
		if lost, err = n.complete(ctx, store, m.Layers, e.Blobs); err != nil {
			return Committed{Err: err}, attaching
		}
		fitted, note, err = fit(gateway.Sent{Manifest: m, Config: config}, lost)
	}
	if err != nil {
		return Committed{Err: errors.Join(err, n.restore(ctx))}, uniting
	}
	doing = uniting
	if fitted.Config == nil {
		doing = attaching
	}
	return n.write(ctx, store, fitted, note, e, n.before(m)), doing
}

// sent is the manifest that BuildKit has written.
func (n native) sent(ctx context.Context, e Exported) (backends.Manifest, error) {
	switch {
	case e.Given != Given{}:
		return backends.ParseManifest([]byte(e.Given.Manifest), "")
	case n.untagged:
		return n.store.(backends.Untagged).ManifestAt(ctx, e.Manifest)
	}
	return n.store.Manifest(ctx, n.scope)
}

// before is what was in the scope before BuildKit has replaced it with m, as it was read before
// the build; nil: BuildKit has not replaced it.
func (n native) before(m backends.Manifest) *former {
	if n.untagged {
		return nil
	}
	f := cmp.Or(n.known(), &former{})
	f.version = m.Version
	return f
}

// harmless is the size in bytes up to which a cache config cannot expand beyond the bounds of
// what is read: each layer takes about 100 bytes, and each record with a result 150.
const harmless = 100_000

// config is the cache config that BuildKit has written; nil: it stays as it is.
func (n native) config(ctx context.Context, store backends.Scopes, m backends.Manifest, given Given) ([]byte, error) {
	if m.Inline != nil {
		return m.Inline, nil
	}
	if given.Config != "" {
		return []byte(given.Config), nil
	}
	if n.keep.Variants == 0 && m.Config.Size <= harmless {
		return nil, nil
	}
	config, err := backends.ReadBlob(ctx, store, m.Config, backends.MaxManifest)
	if err != nil && m.Config.Size <= backends.MaxConfig && !n.untagged {
		return nil, nil // BuildKit imports it; only its bounds are not known
	}
	return config, err
}

// attach writes the manifest with the record.
func (n native) attach(ctx context.Context, m backends.Manifest, e Exported) error {
	m, err := m.WithRecord(n.recordOf(e, n.buildOf(e)))
	if err != nil {
		return err
	}
	return n.store.PutManifest(ctx, n.scope, m)
}

// restore makes the cache that was read before the build the scope's again, where BuildKit has
// replaced it.
func (n native) restore(ctx context.Context) error {
	if n.untagged || n.own == nil || n.own.Verify() != nil {
		return nil
	}
	return n.store.PutManifest(ctx, n.scope, n.own.Manifest)
}

// tagged is an inline cache, which was pushed with the image.
type tagged struct {
	written
	cache backends.ImageTagged
}

func (t tagged) adds() bool { return false }

func (t tagged) holds(Exported, *Known) bool { return false }

func (t tagged) copy(Exported) func(context.Context) []Committed { return nil }

func (t tagged) merge(Exported, *Known) func(context.Context) []Committed { return nil }

func (t tagged) unchanged(e Exported) bool {
	return t.own != nil && t.own.Verify() == nil && t.own.Manifest.Descriptor().Digest == e.Image
}

func (t tagged) commit(ctx context.Context, e Exported) []Committed {
	return []Committed{{Err: t.cache.Tag(ctx, t.scope, e.Image.String())}}
}
