// Package backends knows where BuildKit's caches are kept: it turns the lines of
// the cache input and a [scope.Plan] into BuildKit's cache entries, and reads and
// writes the stores that stand behind the gateway.
//
// For `type=registry,ref=ghcr.io/o/app` and a push to the branch feature/a,
//
//	caches, problems := backends.New(lines, options)
//	caches[0].Imports(plan) // registry ref=ghcr.io/o/app:cache-b-feature-a-951d42dc02, then …:cache-b-main
//	caches[0].Exports(plan) // registry ref=ghcr.io/o/app:cache-b-feature-a-951d42dc02,mode=max,compression=zstd
//
// A branch never becomes a part of a CSV line: entries are attribute maps.
package backends

import (
	"context"
	"errors"
	"io"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

// Backend is one cache of the user's, with everything but the branch decided.
// It maps a whole plan rather than one name, because a backend may fold the
// plan's names into one (gha) or read another kind of entry than it writes (inline).
// Its methods do no I/O and hand out fresh attribute maps on every call, since
// BuildKit's client writes into the ones that it is given.
type Backend interface {
	// String names the place for people: "registry ghcr.io/o/app", "local /var/cache/app".
	// It never holds a secret.
	String() string
	// Imports are the native entries that BuildKit reads from, nearest scope first.
	Imports(scope.Plan) []client.CacheOptionsEntry
	// Exports are the native entries that BuildKit writes to; none when the plan writes nothing.
	Exports(scope.Plan) []client.CacheOptionsEntry
	// Strict reports whether a failed export to this cache fails the step
	// (ignore-error=false), whatever the step's own cache-strict says.
	Strict() bool
}

// Scopes keeps one cache for each scope name. Its methods may be called concurrently.
type Scopes interface {
	// Manifest returns the named scope's cache. The error is [ErrAbsent] only when it
	// is certain that there is none.
	Manifest(context.Context, scope.Name) (Manifest, error)
	// PutManifest makes m the named scope's cache. Its blobs are already in the store.
	PutManifest(context.Context, scope.Name, Manifest) error
	// Stat returns the sizes in bytes of those blobs that the store has; absent ones are left
	// out. A store that does not say gives [UnknownSize].
	Stat(context.Context, []digest.Digest) (map[digest.Digest]int64, error)
	// Open streams a blob from the byte at offset. A blob that is not there is [ErrAbsent].
	Open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error)
}

// Store keeps blobs by digest and caches by scope name, in the layout that plain
// BuildKit uses there.
type Store interface {
	Scopes
	// Put streams a blob into the store. It may be called again for a blob that is
	// there; content that does not match the descriptor leaves nothing behind.
	Put(context.Context, ocispecs.Descriptor, io.Reader) error
}

// Keeper is a backend whose scopes warmlayer can read itself, over the network or on disk.
type Keeper interface {
	Backend
	// Scopes is where this cache is read from.
	Scopes() Scopes
}

// Gated is a backend that a daemon of ours writes through the gateway: one that
// BuildKit either does not speak well or should not hold the credentials of.
type Gated interface {
	Keeper
	// Destination is where blobs and manifests are written to; most often the place
	// of Scopes.
	Destination() Store
	// InPlace reports whether Destination is the place of Scopes, so that what was
	// read there is what an export replaces.
	InPlace() bool
	// Options are the export attributes that BuildKit itself applies: mode,
	// compression and media types. Fresh on every call.
	Options() map[string]string
}

// Limited is a backend whose credentials may allow less than a plan wants.
type Limited interface {
	Backend
	// Refuses says why the plan's scope is not written there, as a phrase: "the runner's
	// token may only read". It is "" when the scope may be written.
	Refuses(scope.Plan) string
}

// importEach is one entry for each scope that the plan reads.
func importEach(p scope.Plan, kind string, attrs func(scope.Name) map[string]string) []client.CacheOptionsEntry {
	var entries []client.CacheOptionsEntry
	for _, s := range p.Read {
		entries = append(entries, client.CacheOptionsEntry{Type: kind, Attrs: attrs(s.Name)})
	}
	return entries
}

// Forced reports whether a cache compresses every layer again in its own way, the
// image's too.
func Forced(caches []Backend) bool {
	for _, c := range caches {
		if gated, ok := c.(Gated); ok && syntax.IsTrue(gated.Options()["force-compression"]) {
			return true
		}
		for _, e := range c.Exports(scope.Plan{Write: "any"}) {
			if syntax.IsTrue(e.Attrs["force-compression"]) {
				return true
			}
		}
	}
	return false
}

// ErrAbsent says that a scope or a blob is certainly not in the store.
var ErrAbsent = errors.New("absent")

// Withheld says why a scope is not to be read, be it there or not. It is an [ErrAbsent].
type Withheld string

func (w Withheld) Error() string { return string(w) }

// Is implements the interface that errors.Is asks for.
func (w Withheld) Is(target error) bool { return target == ErrAbsent }

// UnknownSize is that of a blob which a store has without saying how large it is.
const UnknownSize int64 = -1
