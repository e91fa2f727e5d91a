package step

import (
	"fmt"
	"slices"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// guarded is the build without some caches when an untrusted Dockerfile chooses its own frontend,
// with a warning for each cache that is left out. BuildKit passes cache entries to the frontend,
// so these are the caches whose entries carry credentials: of cache-from and cache-to on every
// builder, of cache on remote builders only.
func (b Build) guarded() Build {
	if b.Plan.Facts.Trusted {
		return b
	}
	frontend := b.Inputs.CustomFrontend()
	if frontend == "" {
		return b
	}
	warn := func(cache string) string {
		return fmt.Sprintf("cache %s is left out: %s would see its credentials, and this run is not trusted (%s)",
			cache, frontend, b.Plan.Facts.Untrusted)
	}
	var left, from, to, scoped []string
	b.Inputs.CacheFrom, from = without(b.Inputs.CacheFrom, cachespec.Cache.Credentials, cachespec.Cache.String)
	b.Inputs.CacheTo, to = without(b.Inputs.CacheTo, cachespec.Cache.Credentials, cachespec.Cache.String)
	if !b.Builder.Address.Managed() {
		b.Caches, scoped = without(b.Caches, backends.Backend.Credentials, backends.Backend.String)
	}
	for _, cache := range slices.Concat(from, to, scoped) {
		left = append(left, warn(cache))
	}
	b.Warnings = slices.Concat(b.Warnings, left)
	return b
}

// without returns a new list of the items that are safe, and the names of the others.
func without[T any](items []T, unsafe func(T) bool, name func(T) string) (kept []T, left []string) {
	for _, one := range items {
		if unsafe(one) {
			left = append(left, name(one))
		} else {
			kept = append(kept, one)
		}
	}
	return kept, left
}
