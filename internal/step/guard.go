package step

import (
	"fmt"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// guarded is the build without what an untrusted build must not have, with a warning for each thing
// that is left out.
func (b Build) guarded() Build {
	if b.Plan.Facts.Trusted {
		return b
	}
	return b.withoutToken().withoutCaches()
}

// withoutToken leaves out the job's token where the workflow has not chosen to hand it over. Every
// RUN step can mount a secret.
func (b Build) withoutToken() Build {
	if !b.Inputs.TokenByDefault || b.Inputs.GitSecret == "" {
		return b
	}
	b.Inputs.Secrets, _ = without(b.Inputs.Secrets,
		func(s inputs.Secret) bool { return s.ID == b.Inputs.GitSecret }, inputs.Secret.String)
	b.Warnings = append(slices.Clip(b.Warnings), fmt.Sprintf(
		"the job's token is withheld from Git contexts: this run is not trusted (%s), and each step of the Dockerfile could read it; to hand it over, set github-token",
		b.Plan.Facts.Untrusted))
	return b
}

// withoutWithheld leaves out the caches of an untrusted build with an empty credential, which is a
// secret that the CI withholds: it must not become the request for the machine's identity.
func (b Build) withoutWithheld() Build {
	if b.Plan.Facts.Trusted {
		return b
	}
	withheld := func(c cachespec.Cache) bool { return len(c.Withheld()) > 0 }
	warning := func(c cachespec.Cache) string {
		return fmt.Sprintf("cache %s is left out: %s is empty, as secrets are in runs that are not trusted (%s)",
			c, strings.Join(c.Withheld(), ", "), untrusted(b.Plan.Facts))
	}
	for _, lines := range []*[]cachespec.Cache{&b.Inputs.Caches, &b.Inputs.CacheFrom, &b.Inputs.CacheTo} {
		var left []string
		*lines, left = without(*lines, withheld, warning)
		b.Warnings = addOnce(b.Warnings, left...)
	}
	return b
}

// withoutCaches leaves out some caches when the Dockerfile chooses its own frontend. BuildKit
// passes cache entries to the frontend, so these are the caches whose entries carry credentials:
// of cache-from and cache-to on every builder, of cache on remote builders only.
func (b Build) withoutCaches() Build {
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
