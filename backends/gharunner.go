package backends

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// runner describes the cache service of a job: attributes of the line, or else the job's
// environment.
type runner struct {
	token      string // ACTIONS_RUNTIME_TOKEN; "" outside a runner
	url        string // of the service; "" when unknown
	v2         bool   // version 2 of the service's protocol
	ghtoken    string // for GitHub's API; "": the API is not used
	repository string // owner/name
	api        string // URL of GitHub's API
}

// ghaRunner reads the line and the environment of a job. A runner sets
// ACTIONS_CACHE_SERVICE_V2 where the service speaks version 2 only, which is on github.com
// (actions/toolkit, packages/cache/src/internal/config.ts). It does not pass this variable
// to container actions, so the server's name decides too. GitHub Enterprise Server, Gitea,
// Forgejo and act have version 1.
func ghaRunner(attrs map[string]string, getenv func(string) string) runner {
	r := runner{
		token:      cmp.Or(attrs["token"], getenv("ACTIONS_RUNTIME_TOKEN")),
		ghtoken:    attrs["ghtoken"],
		repository: cmp.Or(attrs["repository"], getenv("GITHUB_REPOSITORY")),
		api:        cmp.Or(getenv("GITHUB_API_URL"), "https://api.github.com"),
	}
	results := getenv("ACTIONS_RESULTS_URL")
	switch version := attrs["version"]; {
	case version == "1":
	case version == "2", attrs["url_v2"] != "":
		r.v2 = true
	case attrs["url"] != "":
		r.v2 = strings.Contains(attrs["url"], "results-receiver.actions.githubusercontent.com") // as BuildKit guesses
	default:
		r.v2 = results != "" && (syntax.IsTrue(getenv("ACTIONS_CACHE_SERVICE_V2")) || onGitHub(getenv))
	}
	if r.v2 {
		r.url = cmp.Or(attrs["url_v2"], attrs["url"], results)
	} else {
		r.url = cmp.Or(attrs["url"], getenv("ACTIONS_CACHE_URL"))
	}
	return r
}

// onGitHub reports whether the server is github.com, or an enterprise's on ghe.com. act,
// Gitea and Forgejo have variables of their own; act also claims to be github.com.
func onGitHub(getenv func(string) string) bool {
	for _, other := range []string{"ACT", "GITEA_ACTIONS", "FORGEJO_ACTIONS"} {
		if getenv(other) != "" {
			return false
		}
	}
	server, err := url.Parse(cmp.Or(getenv("GITHUB_SERVER_URL"), "https://github.com"))
	return err == nil && (server.Hostname() == "github.com" || strings.HasSuffix(server.Hostname(), ".ghe.com"))
}

func (r runner) check(p *problems, attrs map[string]string, o Options) {
	switch {
	case r.token != "":
	case syntax.IsTrue(o.Getenv("GITHUB_ACTIONS")):
		p.add("a container action gets ACTIONS_RUNTIME_TOKEN from the runner, a run: step does not; use the action, or hand the token on to the step", "there is no token")
	default:
		p.add("this cache is there for jobs on runners of GitHub, Gitea and Forgejo; elsewhere use type=registry or another", "there is no token")
	}
	if r.token != "" && r.url == "" {
		p.add("a runner sets ACTIONS_RESULTS_URL (github.com) or ACTIONS_CACHE_URL (others); or say where: url_v2= or url=", "the service's URL is not known")
	}
	if attrs["repository"] != "" && r.ghtoken == "" {
		p.add("give ghtoken too, or leave it out", "repository does nothing without ghtoken")
	}
	if r.ghtoken != "" && r.repository == "" {
		p.add("give it: repository=owner/name", "ghtoken does nothing without repository")
	}
	if o.Builder.Plaintext() {
		p.add("reach the builder through ssh:// or unix://, or over TLS (builder-cacert), or use another cache", "the token would go to the builder over plain tcp://")
	}
}

// entry holds the attributes of native entries, without the scope.
func (r runner) entry(attrs map[string]string) map[string]string {
	entry := map[string]string{"token": r.token, "version": "1", "url": r.url}
	if r.v2 {
		entry = map[string]string{"token": r.token, "version": "2", "url_v2": r.url}
	}
	if r.ghtoken != "" {
		entry["ghtoken"], entry["repository"] = r.ghtoken, r.repository
	}
	if v := attrs["timeout"]; v != "" {
		entry["timeout"] = v
	}
	return entry
}

// usable reports whether this job can use the cache without further settings.
func (r runner) usable(o Options) bool {
	return r.token != "" && r.url != "" && o.Getenv("ACTIONS_CACHE_MODE") != "none" && !o.Builder.Plaintext()
}

// restTransport sends requests for api.github.com to the API of the runner's server. Every
// status but 200 is an error, because the library reads all answers as lists.
type restTransport struct {
	base string // "https://api.github.com"
	next http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t *restTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	base, err := url.Parse(t.base)
	if err != nil {
		return nil, errors.New("GITHUB_API_URL is no URL")
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = base.Scheme, base.Host, base.Host
	r.URL.Path = strings.TrimSuffix(base.Path, "/") + r.URL.Path
	answer, err := t.next.RoundTrip(r)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("list the entries of the cache: %s", answer.Status), answer.Body.Close())
		answer = nil
	}
	return answer, err
}
