// Package backends has the caches: it makes BuildKit's cache entries from the lines of the input
// cache and a [scope.Plan], and reads and writes the stores that the gateway serves.
//
// For `type=registry,ref=ghcr.io/o/app` and a push to the branch feature/a,
//
//	caches := backends.Open(lines, keychain)
//	caches[0].Imports(plan) // registry ref=ghcr.io/o/app:cache-b-feature-a-951d42dc02dc7431, then …:cache-b-main
//	caches[0].Exports(plan) // registry ref=ghcr.io/o/app:cache-b-feature-a-951d42dc02dc7431,mode=max,compression=zstd
//
// A branch never becomes a part of a CSV line: entries are attribute maps.
package backends

import (
	"context"
	"io"
	"slices"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

// Backend is one cache of the user, for any branch. Its config answers everything that does not
// depend on a plan.
//
// Its methods take a whole plan rather than one name, because a backend may serve all names of the
// plan with one entry (gha), or read another kind of entry than it writes (inline). They do no I/O,
// and return new attribute maps on every call, since BuildKit's client writes to the maps that it
// gets.
type Backend interface {
	cachespec.Config
	// Imports are the native entries that BuildKit reads from, nearest scope first.
	Imports(scope.Plan) []client.CacheOptionsEntry
	// Exports are the native entries that BuildKit writes to; none when the plan writes nothing.
	Exports(scope.Plan) []client.CacheOptionsEntry
	// Scopes is where warmlayer itself reads this cache, over the network or on disk.
	Scopes() Scopes
}

// A Creator is a store whose Swap looks once more after it has written, in case that another build has
// overwritten the scope in the same moment.
type Creator interface {
	// Create is Swap for a scope that has no cache yet, without that look. It is for a cache whose loss does
	// no harm.
	Create(ctx context.Context, n scope.Name, m Manifest) error
}

// Scopes keeps one cache for each scope name. Its methods may be called concurrently.
type Scopes interface {
	// Manifest returns the named scope's cache. The error is [ErrAbsent] only when it
	// is certain that there is none.
	Manifest(context.Context, scope.Name) (Manifest, error)
	// PutManifest makes m the named scope's cache. Its blobs are already in the store.
	PutManifest(context.Context, scope.Name, Manifest) error
	// Swap is PutManifest where the scope's cache still has a version, "" for none. Where
	// another build has written the scope, the error is [ErrReplaced]. With [AnyVersion] it is
	// PutManifest.
	Swap(ctx context.Context, n scope.Name, version string, m Manifest) error
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

// GatewayWritten is a backend that a managed builder writes through the gateway, because BuildKit's
// own support for it is limited, or because BuildKit should not get its credentials.
type GatewayWritten interface {
	Backend
	// Destination is where blobs and manifests are written to; most often the place
	// of Scopes.
	Destination() Store
	// InPlace reports whether Destination is the place of Scopes, so that what was
	// read there is what an export replaces.
	InPlace() bool
}

// ImageTagged is a backend whose cache travels in the image that the build pushes.
type ImageTagged interface {
	Backend
	// Tag makes the pushed image the scope's cache. digest is that of the image or index.
	Tag(ctx context.Context, n scope.Name, digest string) error
}

// Untagged is a store in a registry to which BuildKit can push a cache without naming it.
type Untagged interface {
	Store
	// Untagged is the reference to push to: one with a digest, which BuildKit replaces by the
	// manifest's own.
	Untagged() string
	// ManifestAt reads a manifest by its digest.
	ManifestAt(context.Context, digest.Digest) (Manifest, error)
}

// Complete is a store that has all blobs of a manifest which it serves.
type Complete interface {
	Scopes
	Complete()
}

// Claiming is a store in which a build takes a blob's key before it sends the blob. BuildKit's own exporter
// takes a key that is taken for a blob that is there, so it may write a cache that names a blob which was never
// sent. Put sends such a blob under another key.
type Claiming interface {
	Store
	// Claims says why a blob may not be there: "a build took its key and …".
	Claims() string
}

// Locking is a store with a lock that BuildKit's own exporter takes in this process, if it is free.
type Locking interface {
	Scopes
	// Held reports whether an export failed because another process held the lock.
	Held(err error) bool
	// Unlocked waits until no process holds the lock. Its error says so where ctx ends first.
	Unlocked(context.Context) error
}

// Limited is a backend whose credentials may allow less than a plan requires.
type Limited interface {
	Backend
	// Refuses says why the plan's scope is not written there, as a phrase: "the runner's
	// token may only read". It is "" when the scope may be written.
	Refuses(scope.Plan) string
}

// Keeping is a backend whose store never replaces a blob, so that a damaged one stays until a person
// removes it.
type Keeping interface {
	Backend
	// Replace says how to get a damaged blob replaced, as a phrase: "delete …".
	Replace(digest.Digest) string
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
	return slices.ContainsFunc(caches, func(c Backend) bool { return syntax.IsTrue(c.Options()["force-compression"]) })
}

// Whole reports whether every cache has the layers of all steps, as far as the settings tell.
func Whole(caches []Backend) bool {
	return !slices.ContainsFunc(caches, func(c Backend) bool { return c.Options()["mode"] != "max" })
}

// ErrReplaced says that another build has written a scope meanwhile.
var ErrReplaced = storage.ErrReplaced

// AnyVersion is the version of a scope whose present cache does not matter.
const AnyVersion = storage.AnyVersion

// UserAgent is in the header User-Agent of the program's own requests to registries and stores.
const UserAgent = storage.UserAgent

// ErrAbsent says that a scope or a blob is certainly not in the store.
var ErrAbsent = storage.ErrAbsent

// Withheld says why a scope must not be read, whether it exists or not. It is an [ErrAbsent].
type Withheld string

func (w Withheld) Error() string { return string(w) }

// Is implements the interface that errors.Is asks for.
func (w Withheld) Is(target error) bool { return target == ErrAbsent }

// UnknownSize is the size of a blob whose store does not report sizes.
const UnknownSize = storage.UnknownSize
