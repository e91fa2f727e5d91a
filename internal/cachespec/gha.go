package cachespec

import (
	"cmp"
	"maps"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// GHA is a cache in the GitHub Actions cache service (BuildKit v0.34.2,
// cache/remotecache/gha/gha.go). Resolve takes what the line leaves out from the runner.
type GHA struct {
	common
	Scope        string        // BuildKit's scope, without the key; Resolve sets "buildkit" where the line has none
	Token        string        // the runner's, for the service; "" outside a runner
	URL, URLv2   string        // of the service, for its two versions
	Version      string        // of the service's protocol: 1, 2, or "" to detect it
	GHToken      string        // for GitHub's API; "": the API is not used
	GHRepository string        // owner/name
	Timeout      time.Duration // the longest wait when the service limits the rate of requests

	V2   bool   // Resolve: version 2 of the protocol is used, at URL
	API  string // Resolve: URL of GitHub's API
	Mode string // ACTIONS_CACHE_MODE: "read", "none", "write" or "write-only"; any other value sets no limit
}

func newGHA() *GHA { return &GHA{Timeout: 10 * time.Minute} }

var ghaKind = kind{
	config: func() config { return newGHA() }, inputs: anywhere,
	variables: []string{"ACTIONS_RUNTIME_TOKEN", "GITHUB_TOKEN"},
}

// Type implements [Config].
func (*GHA) Type() string { return "gha" }

func (c GHA) clone() config { return &c }

func (c *GHA) attributes() []attribute {
	return append([]attribute{
		place("scope", &c.Scope, isCacheScope), place("token", &c.Token, notEmpty), place("url", &c.URL, isURL), place("url_v2", &c.URLv2, isURL),
		text("version", &c.Version, oneOf("1", "2")), place("ghtoken", &c.GHToken, notEmpty), place("repository", &c.GHRepository, isRepository),
		duration("timeout", &c.Timeout, isTimeout),
	}, c.objectExport(false)...)
}

// String implements [Config].
func (c *GHA) String() string { return strings.TrimSpace("gha " + c.Scope) }

// Identity implements [Config].
func (c *GHA) Identity() string { return strings.Join([]string{"gha", c.URL, c.Scope}, " ") }

// Credentials implements [Config]. Every entry has the runner's token.
func (c *GHA) Credentials() bool { return true }

// Place holds the attributes of native entries, with the token and without the scope. The
// map is fresh.
func (c *GHA) Place() map[string]string {
	attrs := map[string]string{"token": c.Token, "version": "1", "url": c.URL}
	if c.V2 {
		attrs = map[string]string{"token": c.Token, "version": "2", "url_v2": c.URL}
	}
	if c.GHToken != "" {
		attrs["ghtoken"], attrs["repository"] = c.GHToken, c.GHRepository
	}
	if v := c.attrs["timeout"]; v != "" {
		attrs["timeout"] = v
	}
	return attrs
}

// Native implements [Config]. The runner's token and URL complete the line as in buildx
// (v0.37.0, build/opt.go, addGithubToken), unless they would cross a network unencrypted.
func (c *GHA) Native(env Environment) map[string]string {
	if env.Getenv == nil || env.Plaintext {
		return c.common.Native(env)
	}
	attrs := c.fromRunner(env).Place()
	maps.Copy(attrs, c.attrs)
	return given(attrs)
}

func (c *GHA) resolve(p *problems, env Environment) config {
	r := c.fromRunner(env)
	r.Scope = cmp.Or(c.Scope, "buildkit")
	r.objects(p, env, false)
	r.checkRunner(p, env)
	return r
}

// fromRunner is the line completed with the environment of a job. A runner sets
// ACTIONS_CACHE_SERVICE_V2 where the service speaks version 2 only, which is on github.com
// (actions/toolkit, packages/cache/src/internal/config.ts). It does not pass this variable
// to container actions, so the server's name decides too. GitHub Enterprise Server, Gitea,
// Forgejo and act have version 1.
func (c GHA) fromRunner(env Environment) *GHA {
	c.Token = cmp.Or(c.Token, env.variable("ACTIONS_RUNTIME_TOKEN"))
	c.GHRepository = cmp.Or(c.GHRepository, env.variable("GITHUB_REPOSITORY"))
	c.API = cmp.Or(env.variable("GITHUB_API_URL"), "https://api.github.com")
	c.Mode = env.variable("ACTIONS_CACHE_MODE")
	results := env.variable("ACTIONS_RESULTS_URL")
	switch {
	case c.Version == "1":
	case c.Version == "2", c.URLv2 != "":
		c.V2 = true
	case c.URL != "":
		c.V2 = strings.Contains(c.URL, "results-receiver.actions.githubusercontent.com") // as BuildKit guesses
	default:
		c.V2 = results != "" && (syntax.IsTrue(env.variable("ACTIONS_CACHE_SERVICE_V2")) || onGitHub(env))
	}
	if c.V2 {
		c.URL = cmp.Or(c.URLv2, c.URL, results)
	} else {
		c.URL = cmp.Or(c.URL, env.variable("ACTIONS_CACHE_URL"))
	}
	return &c
}

// onGitHub reports whether the server is github.com, or an enterprise's on ghe.com. act,
// Gitea and Forgejo have variables of their own; act also claims to be github.com.
func onGitHub(env Environment) bool {
	for _, other := range []string{"ACT", "GITEA_ACTIONS", "FORGEJO_ACTIONS"} {
		if env.variable(other) != "" {
			return false
		}
	}
	server, err := url.Parse(cmp.Or(env.variable("GITHUB_SERVER_URL"), "https://github.com"))
	return err == nil && (server.Hostname() == "github.com" || strings.HasSuffix(server.Hostname(), ".ghe.com"))
}

func (c *GHA) checkRunner(p *problems, env Environment) {
	switch {
	case c.Token != "":
	case syntax.IsTrue(env.variable("GITHUB_ACTIONS")):
		p.add("a container action gets ACTIONS_RUNTIME_TOKEN from the runner, a run: step does not; use the action, or pass the token to the step", "there is no token")
	default:
		p.add("only jobs on runners of GitHub, Gitea and Forgejo have this cache; elsewhere use type=registry or another", "there is no token")
	}
	if c.Token != "" && c.URL == "" {
		p.add("a runner sets ACTIONS_RESULTS_URL (github.com) or ACTIONS_CACHE_URL (others); or say where: url_v2= or url=", "the service's URL is not known")
	}
	if c.attrs["repository"] != "" && c.GHToken == "" {
		p.add("give ghtoken too, or leave it out", "repository does nothing without ghtoken")
	}
	if c.GHToken != "" && c.GHRepository == "" {
		p.add("give it: repository=owner/name", "ghtoken does nothing without repository")
	}
	if env.Plaintext {
		p.add("reach the builder through ssh:// or unix://, or over TLS (builder-cacert), or use another cache", "the token would go to the builder over plain tcp://")
	}
}

// lacks says why this job cannot use the cache without further settings; "" where it can.
func (c *GHA) lacks(env Environment) string {
	switch {
	case c.Token == "" && syntax.IsTrue(env.variable("GITHUB_ACTIONS")):
		return "this step has no token for GitHub's cache"
	case c.Token == "":
		return "this job has no cache of GitHub's"
	case c.URL == "":
		return "the address of GitHub's cache is not known"
	case c.Mode == "none":
		return "GitHub turns its cache off for this job"
	case env.Plaintext:
		return "the token of GitHub's cache would go to the builder over plain tcp://"
	}
	return ""
}

// isCacheScope checks a part of an entry's key. GitHub's keys have at most 512 characters and no comma.
func isCacheScope(v string) (string, bool) {
	ok := v != "" && len(v) <= 100 && !strings.ContainsFunc(v, func(r rune) bool { return r == ',' || unicode.IsControl(r) })
	return "a name of at most 100 characters, without the branch: GitHub keeps branches apart", ok
}

func isRepository(v string) (string, bool) {
	owner, name, ok := strings.Cut(v, "/")
	return "owner/name", ok && owner != "" && name != "" && !strings.Contains(name, "/")
}
