package inputs

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Each row has the inputs, and everything that is reported.
func TestProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args    []string
		environ []string
		want    string
	}{
		{environ: []string{"INPUT_CAHCE=x"}, want: "INPUT_CAHCE: there is no such input\nhint: did you mean \"cache\"?"},
		{environ: []string{"PLUGIN_TAG=x"}, want: "PLUGIN_TAG: there is no such input\nhint: did you mean \"tags\"?"},
		{environ: []string{"WARMLAYER_CACHEKEY=x"}, want: "WARMLAYER_CACHEKEY: there is no such input\nhint: did you mean \"cache-key\"?"},
		{environ: []string{`BUILDKITE_PLUGIN_CONFIGURATION={"platform":"x"}`}, want: "platform: there is no such input\nhint: did you mean \"platforms\"?"},
		{environ: []string{"BUILDKITE_PLUGIN_CONFIGURATION=[]"}, want: "BUILDKITE_PLUGIN_CONFIGURATION: this is not a JSON object"},
		{environ: []string{`BUILDKITE_PLUGIN_CONFIGURATION={"push":["true"]}`}, want: "push: one value is expected, not a list"},
		{environ: []string{`BUILDKITE_PLUGIN_CONFIGURATION={"tags":[["x"]]}`}, want: "tags: line 1: a list in a list is not supported"},
		{args: []string{"--no_cache"}, want: "--no_cache: there is no such input\nhint: did you mean \"--no-cache\"?"},
		{environ: []string{"INPUT_FROBNICATE=x"}, want: "INPUT_FROBNICATE: there is no such input\nhint: warmlayer --help lists the inputs"},
		{environ: []string{"INPUT_CACHE-KEY=a", "INPUT_CACHE_KEY=b"}, want: "cache-key: INPUT_CACHE-KEY and INPUT_CACHE_KEY disagree\nhint: set only one of them"},
		{environ: []string{`BUILDKITE_PLUGIN_CONFIGURATION={"Hunter 2":"x"}`}, want: "BUILDKITE_PLUGIN_CONFIGURATION: there is no such input\nhint: warmlayer --help lists the inputs"},
		{environ: []string{`BUILDKITE_PLUGIN_CONFIGURATION={"cache":["inline",{"type":["x"]}]}`}, want: "cache: line 2: its values must be text, numbers, true or false"},
		{environ: []string{`PLUGIN_TAGS=["o/a`}, want: "tags: this is not JSON"},
		{environ: []string{`PLUGIN_TAGS=["o/a"] ["o/b"]`}, want: "tags: this is not JSON"},
		{args: []string{"--tags=o/a", "--tags=\"o/b"}, want: "tags: line 2: quotes are not balanced\nhint: close them, or write a quote inside quotes as \"\""},
		{args: []string{"--tag=x"}, want: "--tag: there is no such input\nhint: did you mean \"--tags\"?"},
		{args: []string{"-x", "."}, want: "argument 1 is not a flag\nhint: flags are spelled as in warmlayer --help"},
		{args: []string{"--AKIA=x"}, want: "argument 1 is not a flag\nhint: flags are spelled as in warmlayer --help"},
		{args: []string{"--cache-key", "--pull"}, want: "cache-key: --cache-key has no value\nhint: write --cache-key=value"},
		{args: []string{"-x=y"}, want: "argument 1 is not a flag\nhint: flags are spelled as in warmlayer --help"},
		{args: []string{"-t"}, want: "tags: -t has no value\nhint: write -t=value"},
		{args: []string{"-t", "-f=Dockerfile"}, want: "tags: -t has no value\nhint: write -t=value"},
		{args: []string{"-f=Dockerfile", "--file=Dockerfile.b"}, want: "file: --file is given twice and differs\nhint: set only one of them"},
		{args: []string{"--cache-key=a", "--cache-key=b"}, want: "cache-key: --cache-key is given twice and differs\nhint: set only one of them"},
		{args: []string{".", "hunter2"}, want: "argument 2 is unexpected\nhint: the only argument is the context; everything else is a flag"},

		{environ: []string{"INPUT_PUSH=yes"}, want: "push: \"yes\" is neither true nor false"},
		{environ: []string{"INPUT_TRUSTED=1"}, want: "trusted: \"1\" is neither true nor false"},
		{environ: []string{"INPUT_PULL-REQUEST=-1"}, want: "pull-request: \"-1\" is not a whole number of zero or more"},
		{environ: []string{"INPUT_CACHE-MODE=foo"}, want: "cache-mode: \"foo\" is none of max, min"},
		{environ: []string{"INPUT_COMPRESSION=zst"}, want: "compression: \"zst\" is none of gzip, estargz, zstd, uncompressed\nhint: did you mean \"zstd\"?"},
		{environ: []string{"INPUT_CACHE-TIMEOUT=-5m"}, want: "cache-timeout: \"-5m\" is not more than zero"},
		{environ: []string{"INPUT_PROBE-TIMEOUT=5"}, want: "probe-timeout: \"5\" has no unit\nhint: write 5s for seconds"},
		{environ: []string{"INPUT_PROBE-TIMEOUT=soon"}, want: "probe-timeout: \"soon\" is not a duration\nhint: write it like 5s, 10m, 1h30m or 14d"},
		{environ: []string{"INPUT_BRANCH=a\nb"}, want: "branch: the value has a line break or another control character"},

		{environ: []string{"INPUT_SECRETS=a=1\n\nhunter2"}, want: "secrets: line 3: expected id=value\nhint: put quotes around a secret of several lines: \"id=value\""},
		{environ: []string{"INPUT_SECRETS=a=1\n\"b=hunter2"}, want: "secrets: line 2: quotes are not balanced\nhint: close them, or write a quote inside quotes as \"\""},
		{environ: []string{"INPUT_BUILD-ARGS=A=1\nB"}, want: "build-args: line 2: expected NAME=value, or the NAME of a variable that is set"},
		{environ: []string{"INPUT_LABELS=a"}, want: "labels: line 1: expected key=value\nhint: for an empty value write \"key=\""},

		{environ: []string{"INPUT_TAGS=o/a:1\nGhcr.io/Owner/App:V1"}, want: "tags: line 2: \"Ghcr.io/Owner/App:V1\" has upper-case letters in its repository\nhint: write \"ghcr.io/owner/app:V1\""},
		{environ: []string{"INPUT_TAGS=a b"}, want: "tags: line 1: \"a b\" is not the name of an image"},
		{environ: []string{"INPUT_TAGS=https://u:hunter2@r/a"}, want: "tags: line 1: the value is not the name of an image"},
		{environ: []string{"INPUT_TAGS=a@sha256:" + strings.Repeat("0", 64)}, want: "tags: line 1: the name of an image to be built has no digest\nhint: leave out @ and what follows"},
		{environ: []string{"INPUT_PLATFORMS=linux/armfoo"}, want: "platforms: line 1: \"linux/armfoo\" is not a platform\nhint: write it like linux/amd64 or linux/arm/v7"},
		{environ: []string{"INPUT_PLATFORMS=linux/amd64,linus/amd64"}, want: "platforms: line 1: \"linus/amd64\" is not a platform\nhint: write it like linux/amd64 or linux/arm/v7"},

		{environ: []string{"INPUT_CACHE=gha\ntype=s3,hunter2"}, want: "cache: line 2: field 2 has no \"=\"\nhint: put quotes around a whole field: type=local,\"dest=a,b\""},
		{environ: []string{"INPUT_CACHE=ghcr.io/o/a"}, want: "cache: line 1: expected type=…\nhint: a repository is written type=registry,ref=…"},
		{environ: []string{"INPUT_CACHE=ref=r/a"}, want: "cache: line 1: the type is missing\nhint: begin with type="},
		{environ: []string{"INPUT_CACHE=type=registry,ref=a,ref=b"}, want: "cache: line 1: attribute \"ref\" is given twice"},
		{environ: []string{"INPUT_CACHE-TO=type=s3,\"bucket=hunter2"}, want: "cache-to: line 1: quotes are not balanced at column 10\nhint: put quotes around a whole field: type=local,\"dest=a,b\""},

		{environ: []string{"INPUT_BUILDER=embeded"}, want: "builder: \"embeded\" is not a builder\nhint: did you mean \"embedded\"?"},
		{environ: []string{"INPUT_BUILDER=engin"}, want: "builder: \"engin\" is not a builder\nhint: did you mean \"engine\"?"},
		{environ: []string{"INPUT_BUILDER=tcp://u:hunter2@%zz"}, want: "builder: the address is not a URL\nhint: write it like tcp://host:1234, and special characters in it as %20"},
		{environ: []string{"INPUT_BUILDER=unix://"}, want: "builder: the address names no builder\nhint: write it like unix:///run/buildkit/buildkitd.sock or docker-container://name"},
		{environ: []string{"INPUT_BUILDER=unx://u:hunter2@h:1"}, want: "builder: \"unx\" is not a kind of address\nhint: did you mean \"unix\"?"},
	} {
		t.Run(fmt.Sprint(tt.args, tt.environ), func(t *testing.T) {
			t.Parallel()
			_, problems := Parse(tt.args, tt.environ, checkout(t))
			if got := problems.Error(); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

func TestAllProblemsInOrder(t *testing.T) {
	t.Parallel()
	_, problems := Parse([]string{"--trusted=maybe"}, []string{
		"INPUT_CACHE-MODE=foo", "INPUT_TAGS=A\nB", "INPUT_FILE=nope", "INPUT_FOO=x", "WARMLAYER_SECRETS=x",
	}, checkout(t))
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprint(p.Input, p.Line))
	}
	want := []string{"INPUT_FOO0", "file0", "tags1", "tags2", "secrets1", "cache-mode0", "trusted0"}
	if !slices.Equal(got, want) {
		t.Errorf("problems are %v, want %v", got, want)
	}
}

// parseIn parses inputs given as INPUT_ variables, in a directory.
func parseIn(dir string, environ ...string) (Values, string) {
	values, problems := Parse(nil, environ, dir)
	problems = slices.DeleteFunc(problems, func(p syntax.Problem) bool { return p.Input == "file" || p.Input == "context" })
	return values, problems.Error()
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil)
	if v.Context.Source != "." || v.Context.Kind != Directory || v.Dockerfile.Name != "Dockerfile" {
		t.Errorf("context %+v, Dockerfile %+v", v.Context, v.Dockerfile)
	}
	if len(v.Caches) != 1 || v.Caches[0].Type != "auto" || v.Caches[0].Line != 0 {
		t.Errorf("caches are %v, want auto by default", v.Caches)
	}
	if v.CacheWrite != "auto" || len(v.Builders) != 1 || v.Builders[0].Address != (builderspec.Address{}) || v.Progress != "auto" || v.ProbeTimeout != 5*time.Second || v.CacheTimeout != 10*time.Minute {
		t.Errorf("defaults are %+v", v)
	}
	if v.CacheExport != (cachespec.Export{}) || v.Trusted != nil || v.PullRequest != 0 || len(v.Outputs) != 0 {
		t.Errorf("unset inputs are set: %+v", v)
	}
}

func TestCacheExport(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil, "INPUT_CACHE-MODE=max", "INPUT_COMPRESSION-LEVEL=03", "INPUT_OCI-MEDIATYPES=True", "INPUT_TRUSTED=false")
	want := cachespec.Export{Mode: "max", CompressionLevel: "3", OCIMediaTypes: "true"}
	if v.CacheExport != want {
		t.Errorf("it is %+v, want %+v", v.CacheExport, want)
	}
	if v.Trusted == nil || *v.Trusted {
		t.Errorf("trusted is %v, want false", v.Trusted)
	}
}

func TestRawCaches(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil, "INPUT_CACHE-FROM=o/app:cache\ntype=gha", "INPUT_CACHE-TO=type=inline")
	if v.Caches != nil {
		t.Errorf("auto is on although cache-to is set: %v", v.Caches)
	}
	if len(v.CacheFrom) != 2 || v.CacheFrom[0].Type != "registry" || v.CacheFrom[0].Attrs["ref"] != "o/app:cache" || v.CacheFrom[1].Type != "gha" {
		t.Errorf("caches to read are %v", v.CacheFrom)
	}
	if v := mustParse(t, nil, "INPUT_CACHE-FROM=type=gha", "INPUT_CACHE=local"); len(v.Caches) != 1 || v.Caches[0].Type != "local" {
		t.Errorf("cache is not read although cache-from is set: %v", v.Caches)
	}
}

func TestPairs(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil, "FOO=bar=baz", "INPUT_BUILD-ARGS=B=2\nFOO\nA=", "INPUT_LABELS=a=\nb=c=d,e")
	if want := []syntax.Pair{{Key: "B", Value: "2"}, {Key: "FOO", Value: "bar=baz"}, {Key: "A", Value: ""}}; !slices.Equal(v.BuildArgs, want) {
		t.Errorf("build arguments are %q, want %q", v.BuildArgs, want)
	}
	if want := []syntax.Pair{{Key: "a", Value: ""}, {Key: "b", Value: "c=d,e"}}; !slices.Equal(v.Labels, want) {
		t.Errorf("labels are %q, want %q", v.Labels, want)
	}
}

func TestImageNames(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil, "INPUT_TAGS=app, o/app:1\ndocker.io/o/app:1\nlocalhost:5000/app",
		"INPUT_PLATFORMS=linux/x86_64,linux/amd64,linux/arm64/v8,linux/arm,linux/arm/v6")
	if want := []string{"docker.io/library/app:latest", "docker.io/o/app:1", "localhost:5000/app:latest"}; !slices.Equal(v.Tags, want) {
		t.Errorf("tags are %v, want %v", v.Tags, want)
	}
	if want := []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6"}; !slices.Equal(v.Platforms, want) {
		t.Errorf("platforms are %v, want %v", v.Platforms, want)
	}
}

// The short flags are those of docker build. Their value follows a space or "=".
func TestShortFlags(t *testing.T) {
	t.Parallel()
	v := mustParse(t, []string{"-t", "o/app:1", "-t=o/app:2", "-f", "Dockerfile"})
	want := []string{"docker.io/o/app:1", "docker.io/o/app:2"}
	if !slices.Equal(v.Tags, want) || v.Dockerfile.Name != "Dockerfile" {
		t.Errorf("tags are %v and the Dockerfile is %s", v.Tags, v.Dockerfile.Name)
	}
}

func TestLocalPlatform(t *testing.T) {
	t.Parallel()
	got := mustParse(t, nil, "INPUT_PLATFORMS=local").Platforms
	if want := runtime.GOOS + "/" + runtime.GOARCH; len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("local is %v, want %s", got, want)
	}
}

func TestFallbacks(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil, "INPUT_CACHE-FALLBACKS=develop, release/1\n\"a,b\"")
	if want := []string{"develop", "release/1", "a,b"}; !slices.Equal(v.Fallbacks, want) {
		t.Errorf("fallbacks are %q, want %q", v.Fallbacks, want)
	}
}

func TestOddBranches(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"feature/ä", "🚀", `it's "quoted"`, "$(reboot)", strings.Repeat("x", 300), "..", "x,ref=evil.io/o/r", "x;main"} {
		if got := mustParse(t, nil, "INPUT_BRANCH="+name).Branch; got != name {
			t.Errorf("branch %q became %q", name, got)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{"mod": "mode", "MODE": "mode", "foo": "", "compresion": "compression", "": ""} {
		if got := syntax.Nearest(word, []string{"mode", "compression", "ref"}); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

const canary = "Hunter2-CanaryCanaryCanary"

func TestSensitive(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil,
		"INPUT_CONTEXT=https://token:pw1@example.com/o/r.git",
		"INPUT_BUILDER=ssh://me:pw2@host",
		"INPUT_SECRETS=a=pw3\n\"b=pw4\nsecond line\"",
		"INPUT_CACHE=type=s3,access_key_id=pw5,secret_access_key=pw6,session_token=pw7,bucket=b",
		"INPUT_CACHE-FROM=type=azblob,account_url=https://a.example/c?sv=1&sig=pw8",
		"INPUT_CACHE-TO=type=gha,token=pw9",
		"INPUT_SECRET-ENVS=c=C", "C=pwA",
		"INPUT_GITHUB-TOKEN=pwB",
		"INPUT_BUILD-CONTEXTS=x=https://token:pwC@example.com/o/r.git",
	)
	want := []string{"pw1", "pw2", "pw3", "pw4\nsecond line", "pw5", "pw6", "pw7", "pw8", "pw9", "pwA", "pwB", "pwC"}
	if got := v.Sensitive(); !slices.Equal(got, want) {
		t.Errorf("the sensitive values are %q, want %q", got, want)
	}
	if got := mustParse(t, nil, "INPUT_CONTEXT=https://ghp_x@example.com/o/r.git").Sensitive(); !slices.Equal(got, []string{"ghp_x"}) {
		t.Errorf("a token as a username: %q", got)
	}
	if shown := fmt.Sprintf("%v %+v %#v", v.Secrets, v.Secrets, v.Secrets); strings.Contains(shown, "pw") {
		t.Errorf("printing secrets shows them: %s", shown)
	}
}

func TestTruth(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]bool{
		"true": {true, false}, "1": {true, false}, "T": {true, false}, "false": {false, true}, "0": {false, true}, "F": {false, true},
		"": {}, "yes": {}, " true": {},
	} {
		if got := [2]bool{syntax.IsTrue(text), syntax.IsFalse(text)}; got != want {
			t.Errorf("%q is true, false: %v, want %v", text, got, want)
		}
	}
}
