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
// index-<scope>-1-<hash of the Git ref>#<n> with an annotated cache config. GitHub keeps
// Git refs apart by itself, so that one of BuildKit's scopes holds all branches:
// the given one, "buildkit" without, and a hyphen and the key where there is one. The
// scope N is then the index of the Git ref that N stands for.
type GHA struct {
	objectCache
	base string // of BuildKit's scope
	url  string // of the service
	v2   bool
	mode string // ACTIONS_CACHE_MODE: "read", "none", "write" or "write-only"; any other is no limit

	cache   *actionscache.Cache   // nil when the token is no good
	err     error                 // why it is not
	http    *http.Client          // for what lies at entries' URLs
	rest    *actionscache.RestAPI // lists the keys of entries; nil: they are looked up one by one
	lookups chan struct{}         // one for each look-up that may be under way
	found   sync.Map              // entries that were looked up, by key, for the one who opens them
	seen    sync.Map              // the newest versions of mutable entries that were seen, by key

	source, destination *ghaStore // instead of objectCache's
}

// ghaAttrs are those of BuildKit's gha cache, beside the ones of every export.
var ghaAttrs = []attr{
	{"scope", isCacheScope}, {"token", notEmpty}, {"url", isURL}, {"url_v2", isURL}, {"version", oneOf("1", "2")},
	{"ghtoken", notEmpty}, {"repository", isRepository}, {"timeout", isTimeout},
}

// What BuildKit takes when its attributes do not say.
const (
	defaultScope   = "buildkit"
	defaultTimeout = 10 * time.Minute // for waiting until the service takes requests again
)

// lookupsAtOnce bounds the look-ups under way, of which GitHub lets a repository make only so
// many a minute.
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

// connect makes the clients. It opens no connection: that a token is no good is known at once.
func (c *GHA) connect(r runner, timeout time.Duration) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = lookupsAtOnce // else a batch's connections are closed after it
	c.http = &http.Client{Transport: transport}
	options := actionscache.Opt{
		Client: c.http, Timeout: timeout,
		BackoffPool: &actionscache.BackoffPool{}, UserAgent: "warmlayer",
	}
	// What is said of a token holds no part of it.
	if c.cache, c.err = actionscache.New(r.token, r.url, r.v2, options); c.err != nil {
		c.err = fmt.Errorf("the runner's token is no good: %w", c.err)
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
// reaches, so that mostly one entry stands for all scopes.
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

// cacheScope is BuildKit's scope for a name. Servers that do not tell Git refs apart
// need the name in full.
func (c *GHA) cacheScope(n scope.Name) string {
	_, key := n.Cut()
	switch {
	case c.oneForAll():
		return c.base + "-" + string(n)
	case key != "":
		return c.base + "-" + key
	}
	return c.base
}

// indexKey is the key of a name's index, less its version.
func (c *GHA) indexKey(n scope.Name) string {
	ref, _ := c.ref(n)
	hash := sha256.Sum256([]byte(ref))
	return "index-" + c.cacheScope(n) + "-1-" + hex.EncodeToString(hash[:])[:8]
}

// oneForAll reports whether the token has a single scope without a name: those of Gitea,
// Forgejo and act (nektos/act v0.2.89, pkg/common/auth.go), which keep no refs apart.
func (c *GHA) oneForAll() bool {
	return c.cache != nil && len(c.cache.Scopes()) == 1 && c.cache.Scopes()[0].Scope == ""
}

// ref is the Git ref that a name stands for, among those that the token reaches.
func (c *GHA) ref(n scope.Name) (ref string, reached bool) {
	if c.cache == nil || c.oneForAll() {
		return "", true // nobody knows; or all are one
	}
	own, _ := n.Cut()
	for _, s := range c.cache.Scopes() {
		if scope.RefName(s.Scope) == own {
			return s.Scope, true
		}
	}
	return "", false
}

// blind reports whether the cache is written by one who may not read it.
func (c *GHA) blind() bool { return c.mode == "write-only" }

// withholds says why a scope is not read, "" when it may be.
func (c *GHA) withholds(n scope.Name) string {
	if c.mode == "none" || c.blind() {
		return "not read: ACTIONS_CACHE_MODE=" + c.mode
	}
	if _, reached := c.ref(n); !reached {
		return "out of the reach of the runner's token"
	}
	return ""
}

// Refuses implements [Limited]: the runner's mode and the token's claim "ac" both have a say.
// What may be read there may be read by whoever has a token, whatever its permission.
func (c *GHA) Refuses(p scope.Plan) string {
	if c.mode == "none" || c.mode == "read" {
		return "ACTIONS_CACHE_MODE=" + c.mode
	}
	if c.cache == nil {
		return ""
	}
	// Of several BuildKit takes the last.
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
	case !c.oneForAll() && scope.RefName(writable.Scope) != own:
		return fmt.Sprintf("the runner's token writes the cache of %s, not %s", writable.Scope, p.Write)
	}
	return ""
}

// isCacheScope is a part of an entry's key, of which GitHub takes 512 characters and no comma.
func isCacheScope(v string) (string, bool) {
	ok := v != "" && len(v) <= 100 && !strings.ContainsFunc(v, func(r rune) bool { return r == ',' || unicode.IsControl(r) })
	return "a name of at most 100 characters, without the branch: GitHub keeps branches apart", ok
}

// isTimeout is a span of time in Go's form, which BuildKit's is.
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
