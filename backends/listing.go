package backends

import (
	"context"
	"time"

	"github.com/warmlayer/warmlayer/internal/layout"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/scope"
)

// A Listing is a store that tells which caches it has, and forgets those that are not wanted any more.
type Listing interface {
	Scopes
	// List hands each cache to a function, in any order, and ends with its error.
	List(ctx context.Context, each func(Entry) error) error
	// At reads a cache that was listed.
	At(context.Context, Entry) (Manifest, error)
	// Forget removes caches that were listed, and hands those that are gone to a function. A cache that another build has
	// written meanwhile stays, where the store can tell. Blobs are left to Sweep, or to the store.
	Forget(ctx context.Context, entries []Entry, gone func(Entry)) error
}

// A Sweeping store keeps blobs that no cache names.
type Sweeping interface {
	Listing
	// Sweep removes them.
	Sweep(context.Context, Sweep) (Swept, error)
}

// Entry is one cache in a store.
type Entry struct {
	Name    scope.Name // "": its name is no scope's, so another program wrote it
	Key     string     // what the store calls it: a tag, or the part of an object's key after the folder
	Changed time.Time  // when it was written last; zero where the store does not say
	Counted *Counted   // sizes, where the store shows them and no manifest; nil elsewhere

	object storage.Listed // in stores of objects
	tag    layout.Tag     // in directories
}

// Counted is what a store says of a cache without showing its manifest.
type Counted struct {
	Own, Shared int64 // bytes
	Blobs       int
}

// Sweep says which blobs are removed: those that no cache names, and that no build of the last while can rely on.
type Sweep struct {
	// Grace is longer than any export takes, from the first blob that it finds in the store to its manifest. Younger blobs
	// stay.
	Grace time.Duration
	// Dry counts and removes nothing.
	Dry bool
	// Without are caches that count as removed; nil: none do.
	Without func(Entry) bool
}

// Swept is what a sweep has removed, or would remove.
type Swept struct {
	Blobs int
	Bytes int64
}

// List is the store of a cache for upkeep: the one that is written. It is nil, with a phrase that says why, where the store
// cannot be listed. The token is for GitHub's API; "" for none.
func List(b Backend, token string) (Listing, string) {
	if gha, ok := b.(*GHA); ok {
		return gha.listing(token)
	}
	store := b.Scopes()
	if written, ok := b.(GatewayWritten); ok {
		store = written.Destination()
	}
	if listing, ok := store.(Listing); ok {
		return listing, ""
	}
	return nil, "caches of type " + b.Type() + " cannot be listed"
}
