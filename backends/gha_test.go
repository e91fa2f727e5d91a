package backends_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// environ looks variables up, each as NAME=value; later ones win.
func environ(variables ...string) func(string) string {
	return func(name string) string {
		found := ""
		for _, v := range variables {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				found = value
			}
		}
		return found
	}
}

// onRunner is the environment of a container action on github.com.
func onRunner(token string, more ...string) func(string) string {
	return environ(append([]string{
		"GITHUB_ACTIONS=true", "GITHUB_SERVER_URL=https://github.com", "GITHUB_REPOSITORY=o/app",
		"ACTIONS_RESULTS_URL=https://results.example/", "ACTIONS_CACHE_URL=https://v1.example/x/", "ACTIONS_RUNTIME_TOKEN=" + token,
	}, more...)...)
}

// service makes tokens that no server is asked about.
var service = testkit.NewActionsCache(nil)

func TestGHARefuses(t *testing.T) {
	t.Parallel()
	here := backends.Options{Getenv: onRunner("canary-token")}
	on := func(builder builderspec.Node, attrs map[string]string) backends.Options {
		return backends.Options{Getenv: here.Getenv, Builder: builder, Attrs: attrs}
	}
	refuses(t, "gha", []refusal{
		{line: "gha", o: here},
		{line: "gha", want: `there is no token
hint: this cache is there for jobs on runners of GitHub, Gitea and Forgejo; elsewhere use type=registry or another`},
		{line: "gha", o: backends.Options{Getenv: environ("GITHUB_ACTIONS=true")}, want: `there is no token
hint: a container action gets ACTIONS_RUNTIME_TOKEN from the runner, a run: step does not; use the action, or hand the token on to the step`},
		{line: "type=gha,token=canary", want: `the service's URL is not known
hint: a runner sets ACTIONS_RESULTS_URL (github.com) or ACTIONS_CACHE_URL (others); or say where: url_v2= or url=`},
		{line: "type=gha,token=canary,url=https://cache.example"},
		{line: "type=gha,version=1", o: backends.Options{Getenv: onRunner("canary", "ACTIONS_CACHE_URL=")}, want: `the service's URL is not known
hint: a runner sets ACTIONS_RESULTS_URL (github.com) or ACTIONS_CACHE_URL (others); or say where: url_v2= or url=`},
		{line: "type=gha,scop=x", o: here, want: `attribute "scop" is unknown
hint: did you mean "scope"?`},
		{line: "type=gha,gh-token=canary", o: here, want: `attribute "gh-token" is unknown
hint: did you mean "ghtoken"?`},
		{line: "type=gha,name=main", o: here, want: `attribute "name" is unknown
hint: the scope is derived from the branch; an entry that is to be used as it stands goes into cache-from or cache-to`},
		{line: "type=gha,scope=", o: here, want: `scope= is not valid
hint: give a name of at most 100 characters, without the branch: GitHub keeps branches apart`},
		{line: `type=gha,"scope=a,b"`, o: here, want: `scope=a,b is not valid
hint: give a name of at most 100 characters, without the branch: GitHub keeps branches apart`},
		{line: "type=gha,version=3", o: here, want: `version=3 is not valid
hint: give one of 1, 2`},
		{line: "type=gha,timeout=-5m", o: here, want: `timeout=-5m is not valid
hint: give a time such as 30s or 10m`},
		{line: "type=gha,url=cache.example", o: here, want: `url=cache.example is not valid
hint: give scheme and host, such as https://host/`},
		{line: "type=gha,mode=most,ignore-error=maybe", o: here, want: `ignore-error=maybe is not valid
hint: give true or false
mode=most is not valid
hint: give one of min, max`},
		{line: "type=gha,repository=o/app", o: here, want: `repository does nothing without ghtoken
hint: give ghtoken too, or leave it out`},
		{line: "type=gha,ghtoken=canary", o: here},
		{line: "type=gha,ghtoken=canary", o: backends.Options{Getenv: onRunner("canary", "GITHUB_REPOSITORY=")}, want: `ghtoken does nothing without repository
hint: give it: repository=owner/name`},
		{line: "type=gha,ghtoken=canary,repository=app", o: here, want: `repository=app is not valid
hint: give owner/name`},

		{line: "gha", o: on(at("ssh://build.example"), nil)},
		{line: "type=gha,compression=zstd", o: on(at("ssh://build.example"), nil), want: `compression is not possible on a remote builder: BuildKit writes layers of gha caches with gzip
hint: leave it out, or use builder=embedded`},
		{line: "gha", o: on(at("unix:///run/b.sock"), map[string]string{"oci-mediatypes": "false"}), want: `oci-mediatypes is not possible on a remote builder: BuildKit writes layers of gha caches with gzip
hint: leave it out, or use builder=embedded`},
		{line: "gha", o: on(secured(at("tcp://build.example:1234")), nil)},
		{line: "gha", o: on(at("tcp://build.example:1234"), nil), want: `the token would go to the builder over plain tcp://
hint: reach the builder through ssh:// or unix://, or over TLS (builder-cacert), or use another cache`},
	})
}

func TestGHATwice(t *testing.T) {
	t.Parallel()
	o := backends.Options{Getenv: onRunner("t")}
	if _, problems := backends.New(lines("gha", "type=gha,scope=buildkit,mode=min"), o); len(problems) != 1 || problems[0].What != "gha buildkit is there twice" {
		t.Errorf("problems %v", problems)
	}
	if _, problems := backends.New(lines("gha", "type=gha,scope=web"), o); len(problems) != 0 {
		t.Errorf("problems %v", problems)
	}
}

// Which version of the service is spoken to, and where.
func TestGHAVersion(t *testing.T) {
	t.Parallel()
	const v1, v2 = "url=https://v1.example/x/ version=1", "url_v2=https://results.example/ version=2"
	tests := []struct {
		what, line string
		env        []string
		want       string
	}{
		{what: "a container action on github.com", want: v2},
		{what: "a company's own ghe.com", env: []string{"GITHUB_SERVER_URL=https://acme.ghe.com"}, want: v2},
		{what: "no server's name", env: []string{"GITHUB_SERVER_URL="}, want: v2},
		{what: "an Enterprise Server", env: []string{"GITHUB_SERVER_URL=https://github.acme.example"}, want: v1},
		{what: "a server that only looks like it", env: []string{"GITHUB_SERVER_URL=https://github.com.evil.example"}, want: v1},
		{what: "a server that says so", env: []string{"GITHUB_SERVER_URL=https://github.acme.example", "ACTIONS_CACHE_SERVICE_V2=True"}, want: v2},
		{what: "Gitea", env: []string{"GITEA_ACTIONS=true"}, want: v1},
		{what: "Forgejo", env: []string{"FORGEJO_ACTIONS=true"}, want: v1},
		{what: "act, which calls itself github.com", env: []string{"ACT=true"}, want: v1},
		{what: "no results service", env: []string{"ACTIONS_RESULTS_URL="}, want: v1},
		{what: "the user's word", line: ",version=1", want: v1},
		{what: "the user's word", line: ",version=2", env: []string{"GITEA_ACTIONS=true"}, want: v2},
		{what: "the user's place", line: ",url=https://mine.example", want: "url=https://mine.example version=1"},
		{what: "the user's place", line: ",url_v2=https://mine.example", want: "url_v2=https://mine.example version=2"},
		{what: "the place by its name", line: ",url=https://results-receiver.actions.githubusercontent.com/",
			want: "url_v2=https://results-receiver.actions.githubusercontent.com/ version=2"},
	}
	for _, test := range tests {
		c := backend(t, backends.Options{Getenv: onRunner("t", test.env...)}, "type=gha"+test.line)
		if got := attrsText(c.Imports(plan("b-main"))[0].Attrs); got != " scope=buildkit token=t "+test.want {
			t.Errorf("%s: attributes%s", test.what, got)
		}
	}
}

// What BuildKit is told, by the refs that the token names.
func TestGHAEntries(t *testing.T) {
	t.Parallel()
	feature := scope.Plan{Write: "b-feature.web", Read: []scope.Source{{Name: "b-feature.web"}, {Name: "b-main.web"}}}
	branch := service.Token("refs/heads/feature", "refs/heads/main")
	tests := []struct {
		what, line, token string
		want              string
	}{
		{"one entry stands for all refs", "type=gha", branch, "scope=buildkit-web\nto scope=buildkit-web mode=max\n"},
		{"the user's scope", "type=gha,scope=shop,mode=min", branch, "scope=shop-web\nto scope=shop-web mode=min\n"},
		{"a token that may only read", "type=gha", service.Token("", "refs/heads/main"), "scope=buildkit-web\n"},
		{"another branch's token", "type=gha", service.Token("refs/heads/other"), ""},
		{"a server without refs", "type=gha", testkit.GHA1{}.Token(),
			"scope=buildkit-b-feature.web\nscope=buildkit-b-main.web\nto scope=buildkit-b-feature.web mode=max\n"},
		{"what is no token", "type=gha", "canary", "scope=buildkit-web\nto scope=buildkit-web mode=max\n"},
	}
	for _, test := range tests {
		c := backend(t, backends.Options{Getenv: onRunner(test.token)}, test.line)
		got := ""
		for _, e := range c.Imports(feature) {
			got += "scope=" + e.Attrs["scope"] + "\n"
		}
		for _, e := range c.Exports(feature) {
			got += "to scope=" + e.Attrs["scope"] + " mode=" + e.Attrs["mode"] + "\n"
		}
		if got != test.want {
			t.Errorf("%s:\n%swant\n%s", test.what, got, test.want)
		}
	}
}

// Token, mode and plan all have a say in what is read and written.
func TestGHALimits(t *testing.T) {
	t.Parallel()
	main := service.Token("refs/heads/main")
	const other = "the runner's token writes the cache of refs/heads/main, not "
	tests := []struct {
		token, mode string
		name        scope.Name
		reads       bool
		refuses     string
	}{
		{main, "", "b-main", true, ""},
		{main, "write", "b-main", true, ""},
		{main, "unheard-of", "b-main", true, ""},
		{main, "read", "b-main", true, "ACTIONS_CACHE_MODE=read"},
		{main, "none", "b-main", false, "ACTIONS_CACHE_MODE=none"},
		{main, "write-only", "b-main", false, ""},
		{main, "", "b-feature", false, other + "b-feature"},
		{main, "", "pr-7", false, other + "pr-7"},
		{main, "", "t-main", false, other + "t-main"},
		{service.Token("", "refs/heads/main"), "", "b-main", true, "the runner's token may only read"},
		{service.Token("refs/pull/7/merge", "refs/heads/main"), "", "pr-7", true, ""},
		{service.Token("refs/pull/7/merge", "refs/heads/main"), "", "b-main", true, "the runner's token writes the cache of refs/pull/7/merge, not b-main"},
		{service.Token("refs/tags/v1"), "", "t-v1", true, ""},
		{service.Token("refs/heads/feature/a"), "", "b-feature-a-951d42dc02", true, ""},
		{testkit.GHA1{}.Token(), "", "b-anything", true, ""},
	}
	for _, test := range tests {
		c := backend(t, backends.Options{Getenv: onRunner(test.token, "ACTIONS_CACHE_MODE="+test.mode)}, "gha").(backends.Limited)
		if got := c.Refuses(plan(test.name)); got != test.refuses {
			t.Errorf("mode %q, %s: refuses %q, want %q", test.mode, test.name, got, test.refuses)
		}
		if got := len(c.Imports(plan(test.name))) > 0; got != test.reads {
			t.Errorf("mode %q, %s: read is %t", test.mode, test.name, got)
		}
		if got := len(c.Exports(plan(test.name))) > 0; got != (test.refuses == "") {
			t.Errorf("mode %q, %s: export is %t", test.mode, test.name, got)
		}
	}
}

func TestAutoPrefersGHA(t *testing.T) {
	t.Parallel()
	tests := []struct {
		o    backends.Options
		want string
	}{
		{backends.Options{Getenv: onRunner("t")}, "gha buildkit"},
		{backends.Options{Getenv: onRunner("t"), Images: pushed.Images}, "registry ghcr.io/o/app"},
		{backends.Options{Getenv: onRunner("t", "ACTIONS_CACHE_MODE=read")}, "gha buildkit"},
		{backends.Options{Getenv: onRunner("t", "ACTIONS_CACHE_MODE=none")}, "local /c"},
		{backends.Options{Getenv: onRunner("")}, "local /c"},
		{backends.Options{Getenv: environ("ACTIONS_RUNTIME_TOKEN=t")}, "local /c"},
		{backends.Options{Getenv: onRunner("t"), Builder: at("tcp://build.example:1234")}, "local /c"},
	}
	for _, test := range tests {
		test.o.CacheDir = "/c"
		if got := fmt.Sprint(backend(t, test.o, "auto")); got != test.want {
			t.Errorf("auto is %s, want %s", got, test.want)
		}
	}
}

// Entries of the user's own get from the runner what they lack.
func TestGHAVerbatim(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"gha":                                       " token=t url_v2=https://results.example/ version=2",
		"type=gha,scope=x,token=mine,version=1":     " scope=x token=mine url=https://v1.example/x/ version=1",
		"type=gha,url_v2=https://there.example":     " token=t url_v2=https://there.example version=2",
		"type=gha,ghtoken=g,timeout=1m,scope=a":     " ghtoken=g repository=o/app scope=a timeout=1m token=t url_v2=https://results.example/ version=2",
		"type=registry,ref=ghcr.io/o/app":           " ref=ghcr.io/o/app",
		"type=gha,token=t,url=https://x.example/y/": " token=t url=https://x.example/y/ version=1",
	} {
		imports, _, _ := backends.Verbatim(lines(line), nil, backends.Options{Getenv: onRunner("t")})
		if got := attrsText(imports[0].Attrs); got != want {
			t.Errorf("%s: attributes%s, want%s", line, got, want)
		}
	}
	imports, _, _ := backends.Verbatim(lines("gha"), nil, backends.Options{Getenv: onRunner("canary"), Builder: at("tcp://build.example:1234")})
	if got := attrsText(imports[0].Attrs); got != "" {
		t.Errorf("over plain tcp go%s", got)
	}
}
