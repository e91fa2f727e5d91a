package backends_test

import (
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// service makes tokens for tests that contact no server.
var service = testkit.NewActionsCache(nil)

// The version of the service, and its address.
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
		c := backend(t, cachespec.Environment{Getenv: testkit.OnRunner("t", test.env...)}, "type=gha"+test.line)
		if got := attrsText(c.Imports(plan("b-main"))[0].Attrs); got != " scope=buildkit token=t "+test.want {
			t.Errorf("%s: attributes%s", test.what, got)
		}
	}
}

// BuildKit's entries, depending on the refs in the token.
func TestGHAEntries(t *testing.T) {
	t.Parallel()
	feature := scope.Plan{Write: "b-feature.web", Read: []scope.Source{{Name: "b-feature.web"}, {Name: "b-main.web"}}}
	branch := service.Token("refs/heads/feature", "refs/heads/main")
	tests := []struct {
		what, line, token string
		want              string
	}{
		{"one entry for all refs", "type=gha", branch, "scope=buildkit-web\nto scope=buildkit-web mode=max\n"},
		{"the user's scope", "type=gha,scope=shop,mode=min", branch, "scope=shop-web\nto scope=shop-web mode=min\n"},
		{"a token that may only read", "type=gha", service.Token("", "refs/heads/main"), "scope=buildkit-web\n"},
		{"another branch's token", "type=gha", service.Token("refs/heads/other"), ""},
		{"a server without refs", "type=gha", testkit.GHA1{}.Token(),
			"scope=buildkit-b-feature.web\nscope=buildkit-b-main.web\nto scope=buildkit-b-feature.web mode=max\n"},
		{"not a token", "type=gha", "canary", "scope=buildkit-web\nto scope=buildkit-web mode=max\n"},
	}
	for _, test := range tests {
		c := backend(t, cachespec.Environment{Getenv: testkit.OnRunner(test.token)}, test.line)
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

// The token, the mode and the plan together determine what is read and written.
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
		{service.Token("refs/heads/feature/a"), "", "b-feature-a-951d42dc02dc7431", true, ""},
		{testkit.GHA1{}.Token(), "", "b-anything", true, ""},
	}
	for _, test := range tests {
		c := backend(t, cachespec.Environment{Getenv: testkit.OnRunner(test.token, "ACTIONS_CACHE_MODE="+test.mode)}, "gha").(backends.Limited)
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

// A merge queue's run has a ref of its own: its scope is neither read nor written on github.com, and
// main's is read. Servers that do not separate refs have it.
func TestGHAMergeQueue(t *testing.T) {
	const ref = "refs/heads/gh-readonly-queue/main/pr-7-abc"
	group := scope.New(scope.Facts{Base: "main", Default: "main", Queue: true, Trusted: true}, scope.Options{})
	tests := []struct {
		token, write string
		imports      int
		refuses      string
	}{
		{service.Token(ref, "refs/heads/main"), "", 1, "GitHub's cache would give what this run writes for " + ref +
			" to no other run: neither to the queue's next one nor to the push to main; a registry or a bucket keeps it"},
		{service.Token(ref), "", 0, "GitHub's cache would give what this run writes for " + ref +
			" to no other run: neither to the queue's next one nor to the push to main; a registry or a bucket keeps it"},
		{service.Token("", "refs/heads/main"), "", 1, "the runner's token may only read"},
		{testkit.GHA1{}.Token(), "buildkit-q-main", 2, ""},
	}
	for _, test := range tests {
		c := backend(t, cachespec.Environment{Getenv: testkit.OnRunner(test.token)}, "gha")
		if got := c.(backends.Limited).Refuses(group); got != test.refuses {
			t.Errorf("refuses %q, want %q", got, test.refuses)
		}
		if got := len(c.Imports(group)); got != test.imports {
			t.Errorf("%d imports, want %d", got, test.imports)
		}
		write := ""
		for _, e := range c.Exports(group) {
			write += e.Attrs["scope"]
		}
		if write != test.write {
			t.Errorf("writes %q, want %q", write, test.write)
		}
	}
}
