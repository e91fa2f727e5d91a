package backends

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/moby/buildkit/client"
	actionscache "github.com/tonistiigi/go-actions-cache"

	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

// GHA is a cache in the GitHub Actions cache service, in the entries that BuildKit keeps
// there (v0.33.1, cache/remotecache/gha/gha.go): buildkit-blob-1-<digest>, and
// index-<scope>-1-<hash of the Git ref>#<n> with an annotated cache config. GitHub separates
// Git refs itself, so one of BuildKit's scopes holds all branches: the attribute scope
// ("buildkit" by default), followed by a hyphen and the key where there is a key. The
// scope N is the index of the Git ref that N stands for.
type GHA struct {
	objectCache
	base string // BuildKit's scope, without the key
	url  string // of the service
	v2   bool   // version 2 of the service's protocol
	mode string // ACTIONS_CACHE_MODE: "read", "none", "write" or "write-only"; any other value sets no limit

	cache   *actionscache.Cache   // nil when the token is not valid
	err     error                 // why cache is nil
	http    *http.Client          // for requests to entries' URLs
	rest    *actionscache.RestAPI // lists the keys of entries; nil: each key is looked up
	lookups chan struct{}         // a slot for each concurrent look-up
	found   sync.Map              // entries that were looked up, by key, until they are opened
	seen    sync.Map              // the newest known version of each series of entries, by key

	source, destination *ghaStore // in place of objectCache's
}

// ghaAttrs are those of BuildKit's gha cache, beside the ones of every export.
var ghaAttrs = []attr{
	{"scope", isCacheScope}, {"token", notEmpty}, {"url", isURL}, {"url_v2", isURL}, {"version", oneOf("1", "2")},
	{"ghtoken", notEmpty}, {"repository", isRepository}, {"timeout", isTimeout},
}

// BuildKit's defaults of the attributes scope and timeout.
const (
	defaultScope   = "buildkit"
	defaultTimeout = 10 * time.Minute // the longest wait when the service limits the rate of requests
)

// lookupsAtOnce bounds concurrent look-ups, because GitHub limits their rate for each repository.
const lookupsAtOnce = 16

func newGHA(p *problems, attrs map[string]string, o Options) Backend {
	c := &GHA{
		objectCache: objectCache{kind: "gha", strict: syntax.IsFalse(attrs["ignore-error"]), options: exportOptions(p, attrs, o.Attrs)},
		base:        cmp.Or(attrs["scope"], defaultScope),
		mode:        o.Getenv("ACTIONS_CACHE_MODE"),
		lookups:     make(chan struct{}, lookupsAtOnce),
	}
	r := ghaRunner(attrs, o.Getenv)
	r.check(p, attrs, o)
	c.nativeOnly(p, attrs, o)
	c.url, c.v2, c.given = r.url, r.v2, r.entry(attrs)
	timeout := defaultTimeout
	if d, err := time.ParseDuration(attrs["timeout"]); err == nil {
		timeout = d
	}
	c.connect(r, timeout)
	c.source, c.destination = c.store(), c.store()
	return c
}

// connect makes the clients. It opens no connection: a malformed token is found by parsing it.
func (c *GHA) connect(r runner, timeout time.Duration) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = lookupsAtOnce // keeps a batch's connections for the next one
	c.http = &http.Client{Transport: transport}
	options := actionscache.Opt{
		Client: c.http, Timeout: timeout,
		BackoffPool: &actionscache.BackoffPool{}, UserAgent: "warmlayer",
	}
	// The library's errors about a token contain no part of it.
	if c.cache, c.err = actionscache.New(r.token, r.url, r.v2, options); c.err != nil {
		c.err = fmt.Errorf("the runner's token is not valid: %w", c.err)
	}
	if r.ghtoken != "" {
		options.Client = &http.Client{Transport: &restTransport{base: r.api, next: transport}}
		c.rest, _ = actionscache.NewRestAPI(r.repository, r.ghtoken, options) // never fails
	}
}

func (c *GHA) String() string { return "gha " + c.base }

// Scopes implements [Keeper].
func (c *GHA) Scopes() Scopes { return c.source }

// Destination implements [Gated].
func (c *GHA) Destination() Store { return c.destination }

// Imports implements [Backend]. BuildKit reads the indexes of all Git refs that the token
// reaches, so usually one entry stands for all scopes.
func (c *GHA) Imports(p scope.Plan) []client.CacheOptionsEntry {
	var entries []client.CacheOptionsEntry
	for _, s := range p.Read {
		entry := client.CacheOptionsEntry{Type: "gha", Attrs: c.attrs(s.Name)}
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
	attrs["mode"] = c.options["mode"]
	return []client.CacheOptionsEntry{{Type: "gha", Attrs: attrs}}
}

func (c *GHA) attrs(n scope.Name) map[string]string {
	attrs := maps.Clone(c.given)
	attrs["scope"] = c.cacheScope(n)
	return attrs
}

// cacheScope is BuildKit's scope for a name. On servers that do not separate Git refs it
// contains the whole name.
func (c *GHA) cacheScope(n scope.Name) string {
	_, key := n.Cut()
	switch {
	case c.sharedByRefs():
		return c.base + "-" + string(n)
	case key != "":
		return c.base + "-" + key
	}
	return c.base
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
	return c.cache != nil && len(c.cache.Scopes()) == 1 && c.cache.Scopes()[0].Scope == ""
}

// ref is the Git ref that a name stands for, if the token reaches it. It is "" when all refs
// share one cache, and without a valid token.
func (c *GHA) ref(n scope.Name) (ref string, reached bool) {
	if c.cache == nil || c.sharedByRefs() {
		return "", true
	}
	own, _ := n.Cut()
	for _, s := range c.cache.Scopes() {
		if scope.RefName(s.Scope) == own {
			return s.Scope, true
		}
	}
	return "", false
}

// writeOnly reports whether this job may write the cache and not read it.
func (c *GHA) writeOnly() bool { return c.mode == "write-only" }

// withholds is the reason why a scope must not be read, "" when it may be.
func (c *GHA) withholds(n scope.Name) string {
	if c.mode == "none" || c.writeOnly() {
		return "not read: ACTIONS_CACHE_MODE=" + c.mode
	}
	if _, reached := c.ref(n); !reached {
		return "not read: the runner's token does not reach it"
	}
	return ""
}

// Refuses implements [Limited]. Both ACTIONS_CACHE_MODE and the token's claim "ac" must allow
// the write.
func (c *GHA) Refuses(p scope.Plan) string {
	if c.mode == "none" || c.mode == "read" {
		return "ACTIONS_CACHE_MODE=" + c.mode
	}
	if c.cache == nil {
		return ""
	}
	// Of several writable scopes BuildKit uses the last.
	var writable *actionscache.Scope
	for _, s := range c.cache.Scopes() {
		if s.Permission&actionscache.PermissionWrite != 0 {
			writable = &s
		}
	}
	own, _ := p.Write.Cut()
	switch {
	case writable == nil:
		return "the runner's token may only read"
	case !c.sharedByRefs() && scope.RefName(writable.Scope) != own:
		return fmt.Sprintf("the runner's token writes the cache of %s, not %s", writable.Scope, p.Write)
	}
	return ""
}

// isCacheScope checks a part of an entry's key. GitHub's keys have at most 512 characters and no comma.
func isCacheScope(v string) (string, bool) {
	ok := v != "" && len(v) <= 100 && !strings.ContainsFunc(v, func(r rune) bool { return r == ',' || unicode.IsControl(r) })
	return "a name of at most 100 characters, without the branch: GitHub keeps branches apart", ok
}

// isTimeout checks a duration in Go's form, as BuildKit does.
func isTimeout(v string) (string, bool) {
	d, err := time.ParseDuration(v)
	return "a time such as 30s or 10m", err == nil && d > 0
}

func isURL(v string) (string, bool) {
	u, err := url.Parse(v)
	return "scheme and host, such as https://host/", err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func isRepository(v string) (string, bool) {
	owner, name, ok := strings.Cut(v, "/")
	return "owner/name", ok && owner != "" && name != "" && !strings.Contains(name, "/")
}
