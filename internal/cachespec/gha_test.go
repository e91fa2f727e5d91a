package cachespec_test

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestGHARefuses(t *testing.T) {
	t.Parallel()
	here := cachespec.Environment{Getenv: testkit.OnRunner("canary-token")}
	remote := cachespec.Environment{Getenv: here.Getenv, Remote: true}
	docker, open := remote, remote
	docker.Export.OCIMediaTypes, open.Plaintext = "false", true
	refuses(t, "gha", []refusal{
		{line: "gha", o: here},
		{line: "gha", want: `there is no token
hint: only jobs on runners of GitHub, Gitea and Forgejo have this cache; elsewhere use type=registry or another`},
		{line: "gha", o: cachespec.Environment{Getenv: testkit.Environ("GITHUB_ACTIONS=true")}, want: `there is no token
hint: a container action gets ACTIONS_RUNTIME_TOKEN from the runner, a run: step does not; use the action, or pass the token to the step`},
		{line: "type=gha,token=canary", want: `the service's URL is not known
hint: a runner sets ACTIONS_RESULTS_URL (github.com) or ACTIONS_CACHE_URL (others); or say where: url_v2= or url=`},
		{line: "type=gha,token=canary,url=https://cache.example"},
		{line: "type=gha,version=1", o: cachespec.Environment{Getenv: testkit.OnRunner("canary", "ACTIONS_CACHE_URL=")}, want: `the service's URL is not known
hint: a runner sets ACTIONS_RESULTS_URL (github.com) or ACTIONS_CACHE_URL (others); or say where: url_v2= or url=`},
		{line: "type=gha,scop=x", o: here, want: `attribute "scop" is unknown
hint: did you mean "scope"?`},
		{line: "type=gha,gh-token=canary", o: here, want: `attribute "gh-token" is unknown
hint: did you mean "ghtoken"?`},
		{line: "type=gha,name=main", o: here, want: `attribute "name" is unknown
hint: the scope is derived from the branch; put an entry that is used unchanged into cache-from or cache-to`},
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
		{line: "type=gha,ghtoken=canary", o: cachespec.Environment{Getenv: testkit.OnRunner("canary", "GITHUB_REPOSITORY=")}, want: `ghtoken does nothing without repository
hint: give it: repository=owner/name`},
		{line: "type=gha,ghtoken=canary,repository=app", o: here, want: `repository=app is not valid
hint: give owner/name`},

		{line: "gha", o: remote},
		{line: "type=gha,compression=zstd", o: remote, want: `compression is not possible on a remote builder: BuildKit writes layers of gha caches with gzip
hint: leave it out, or use builder=embedded`},
		{line: "gha", o: docker, want: `oci-mediatypes is not possible on a remote builder: BuildKit writes layers of gha caches with gzip
hint: leave it out, or use builder=embedded`},
		{line: "gha", o: open, want: `the token would go to the builder over plain tcp://
hint: reach the builder through ssh:// or unix://, or over TLS (builder-cacert), or use another cache`},
	})
}

func TestGHATwice(t *testing.T) {
	t.Parallel()
	o := cachespec.Environment{Getenv: testkit.OnRunner("t")}
	if _, problems := testkit.Resolve(o, "gha", "type=gha,scope=buildkit,mode=min"); len(problems) != 1 || problems[0].What != "gha buildkit is given twice" {
		t.Errorf("problems %v", problems)
	}
	if _, problems := testkit.Resolve(o, "gha", "type=gha,scope=web"); len(problems) != 0 {
		t.Errorf("problems %v", problems)
	}
}

// Auto takes a registry, GitHub's cache or a directory, and says why it does not take a registry.
func TestAuto(t *testing.T) {
	t.Parallel()
	const pushes = "the build pushes no image"
	tests := []struct {
		o         cachespec.Environment
		want, why string
	}{
		{cachespec.Environment{Getenv: testkit.OnRunner("t"), Images: pushed.Images}, "registry ghcr.io/o/app", ""},
		{cachespec.Environment{Images: []string{"localhost:5000/x:v1"}}, "registry localhost:5000/x", ""},
		{cachespec.Environment{Getenv: testkit.OnRunner("t")}, "gha buildkit", pushes},
		{cachespec.Environment{Getenv: testkit.OnRunner("t", "ACTIONS_CACHE_MODE=read")}, "gha buildkit", pushes},
		{cachespec.Environment{Getenv: testkit.OnRunner("t", "ACTIONS_CACHE_MODE=none")}, "local /c", pushes + ", and GitHub turns its cache off for this job"},
		{cachespec.Environment{Getenv: testkit.OnRunner("")}, "local /c", pushes + ", and this step has no token for GitHub's cache"},
		{cachespec.Environment{Getenv: testkit.Environ("ACTIONS_RUNTIME_TOKEN=t")}, "local /c", pushes + ", and the address of GitHub's cache is not known"},
		{cachespec.Environment{Getenv: testkit.OnRunner("t"), Remote: true, Plaintext: true}, "local /c", pushes + ", and the token of GitHub's cache would go to the builder over plain tcp://"},
		{cachespec.Environment{}, "local /c", pushes + ", and this job has no cache of GitHub's"},
	}
	for _, test := range tests {
		test.o.CacheDir = "/c"
		got, problems := testkit.Resolve(test.o, "auto")
		if len(got) != 1 || len(problems) > 0 || got[0].Config.String() != test.want || got[0].Instead != test.why {
			t.Errorf("auto is %+v, %v; want %s because %q", got, problems, test.want, test.why)
		}
	}
}

// Lines of cache-from and cache-to get missing attributes from the runner.
func TestGHAVerbatim(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"type=gha":                                  " token=t url_v2=https://results.example/ version=2",
		"type=gha,scope=x,token=mine,version=1":     " scope=x token=mine url=https://v1.example/x/ version=1",
		"type=gha,url_v2=https://there.example":     " token=t url_v2=https://there.example version=2",
		"type=gha,ghtoken=g,timeout=1m,scope=a":     " ghtoken=g repository=o/app scope=a timeout=1m token=t url_v2=https://results.example/ version=2",
		"type=registry,ref=ghcr.io/o/app":           " ref=ghcr.io/o/app",
		"type=gha,token=t,url=https://x.example/y/": " token=t url=https://x.example/y/ version=1",
	} {
		lines, problems := testkit.Lines(cachespec.From, line)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if got := attrsText(lines[0].Config.Native(cachespec.Environment{Getenv: testkit.OnRunner("t")})); got != want {
			t.Errorf("%s: attributes%s, want%s", line, got, want)
		}
	}
	lines, _ := testkit.Lines(cachespec.From, "type=gha")
	if got := attrsText(lines[0].Config.Native(cachespec.Environment{Getenv: testkit.OnRunner("canary"), Remote: true, Plaintext: true})); got != "" {
		t.Errorf("over plain tcp these attributes are sent:%s", got)
	}
}
