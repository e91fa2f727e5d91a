package backends

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	actionscache "github.com/tonistiigi/go-actions-cache"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/ghaservice"
	"github.com/warmlayer/warmlayer/scope"
)

// GHA is a cache in the GitHub Actions cache service, in the entries that BuildKit keeps
// there (v0.34.2, cache/remotecache/gha/gha.go): buildkit-blob-1-<digest>, and
// index-<scope>-1-<hash of the Git ref>#<n> with an annotated cache config. GitHub separates
// Git refs itself, so one of BuildKit's scopes holds all branches: the attribute scope
// ("buildkit" by default), followed by a hyphen and the key where there is a key. The
// scope N is the index of the Git ref that belongs to N. No ref belongs to a merge queue's scope.
type GHA struct {
	objectCache
	spec *cachespec.GHA

	client *ghaservice.Client

	source, destination *ghaStore // in place of objectCache's
}

func newGHA(spec *cachespec.GHA, _ authn.Keychain) *GHA {
	c := &GHA{objectCache: objectCache{Config: spec, place: spec.Place(), options: []string{"mode"}}, spec: spec, client: ghaservice.New(spec)}
	c.source, c.destination = c.store(), c.store()
	return c
}

// Replace implements [Keeping].
func (c *GHA) Replace(d digest.Digest) string {
	return "entries of GitHub's cache are never replaced: delete this one (gh cache delete " + ghaservice.BlobPrefix + d.String() + ")"
}

// Scopes implements [Backend].
func (c *GHA) Scopes() Scopes { return c.source }

// Destination implements [GatewayWritten].
func (c *GHA) Destination() Store { return c.destination }

// Imports implements [Backend]. BuildKit reads the indexes of all Git refs that the token
// reaches, so usually one entry stands for all scopes.
func (c *GHA) Imports(p scope.Plan) []client.CacheOptionsEntry {
	var entries []client.CacheOptionsEntry
	for _, s := range p.Read {
		entry := client.CacheOptionsEntry{Type: c.Type(), Attrs: c.attrs(s.Name)}
		known := slices.ContainsFunc(entries, func(e client.CacheOptionsEntry) bool { return maps.Equal(e.Attrs, entry.Attrs) })
		if !known && c.withholds(s.Name) == "" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// Exports implements [Backend]. BuildKit writes the index of the Git ref that the token may write.
func (c *GHA) Exports(p scope.Plan) []client.CacheOptionsEntry {
	if p.Write == "" || c.Refuses(p) != "" {
		return nil
	}
	attrs := c.attrs(p.Write)
	attrs["mode"] = c.Options()["mode"]
	return []client.CacheOptionsEntry{{Type: c.Type(), Attrs: attrs}}
}

func (c *GHA) attrs(n scope.Name) map[string]string {
	attrs := maps.Clone(c.place)
	attrs["scope"] = c.cacheScope(n)
	return attrs
}

// cacheScope is BuildKit's scope for a name. On servers that do not separate Git refs it
// contains the whole name.
func (c *GHA) cacheScope(n scope.Name) string {
	_, key := n.Cut()
	switch {
	case c.sharedByRefs():
		return c.spec.Scope + "-" + string(n)
	case key != "":
		return c.spec.Scope + "-" + key
	}
	return c.spec.Scope
}

// indexKey is the key of a name's index, without the version's number.
func (c *GHA) indexKey(n scope.Name) string {
	ref, _ := c.ref(n)
	hash := sha256.Sum256([]byte(ref))
	return "index-" + c.cacheScope(n) + "-1-" + hex.EncodeToString(hash[:])[:8]
}

// sharedByRefs reports whether all Git refs share one cache: the token names a single scope,
// the empty one. So it is with Gitea, Forgejo and act (nektos/act v0.2.89, pkg/common/auth.go).
func (c *GHA) sharedByRefs() bool {
	return len(c.client.Scopes()) == 1 && c.client.Scopes()[0].Scope == ""
}

// ref is the Git ref that a name stands for, if the token reaches it. It is "" when all refs
// share one cache, and without a valid token.
func (c *GHA) ref(n scope.Name) (ref string, reached bool) {
	if !c.client.Valid() || c.sharedByRefs() {
		return "", true
	}
	own, _ := n.Cut()
	for _, s := range c.client.Scopes() {
		if scope.RefName(s.Scope) == own {
			return s.Scope, true
		}
	}
	return "", false
}

// withholds is the reason why a scope must not be read, "" when it may be.
func (c *GHA) withholds(n scope.Name) string {
	if c.spec.Mode == "none" || c.client.WriteOnly() {
		return "not read: ACTIONS_CACHE_MODE=" + c.spec.Mode
	}
	if _, reached := c.ref(n); !reached {
		return "not read: the runner's token does not reach it"
	}
	return ""
}

// Refuses implements [Limited]. Both ACTIONS_CACHE_MODE and the token's claim "ac" must allow
// the write. A merge queue's runs each have a ref of their own, whose cache only they and their
// repetitions read (docs.github.com, "Dependency caching reference", restrictions for accessing a
// cache), so they write nothing.
func (c *GHA) Refuses(p scope.Plan) string {
	if c.spec.Mode == "none" || c.spec.Mode == "read" {
		return "ACTIONS_CACHE_MODE=" + c.spec.Mode
	}
	if !c.client.Valid() {
		return ""
	}
	// Of several writable scopes BuildKit uses the last.
	var writable *actionscache.Scope
	for _, s := range c.client.Scopes() {
		if s.Permission&actionscache.PermissionWrite != 0 {
			writable = &s
		}
	}
	own, _ := p.Write.Cut()
	switch {
	case writable == nil:
		return "the runner's token may only read"
	case !c.sharedByRefs() && p.Facts.Queue && scope.RefName(writable.Scope) != own:
		return fmt.Sprintf("GitHub's cache would give what this run writes for %s to no other run: neither to the queue's next one nor to the push to %s; "+
			"a registry or a bucket keeps it", writable.Scope, p.Facts.Base)
	case !c.sharedByRefs() && scope.RefName(writable.Scope) != own:
		return fmt.Sprintf("the runner's token writes the cache of %s, not %s", writable.Scope, p.Write)
	}
	return ""
}
