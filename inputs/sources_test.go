package inputs

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// checkout is a Git repository with a Dockerfile.
func checkout(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, ".git/HEAD")
	write(t, dir, "Dockerfile")
	return dir
}

func write(t testing.TB, dir, name string) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("FROM scratch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mustParse parses inputs, and fails the test when they have problems.
func mustParse(t *testing.T, args []string, environ ...string) Values {
	t.Helper()
	v, problems := Parse(args, environ, checkout(t))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return v
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	sources := []string{
		"INPUT_CACHE-KEY=action",
		"PLUGIN_CACHE_KEY=plugin",
		`BUILDKITE_PLUGIN_CONFIGURATION={"cache-key":"buildkite"}`,
		"WARMLAYER_CACHE_KEY=own",
	}
	for i, want := range []string{"action", "plugin", "buildkite", "own"} {
		if got := mustParse(t, nil, sources[i:]...).CacheKey; got != want {
			t.Errorf("with %v the key is %q, want %q", sources[i:], got, want)
		}
	}
	if got := mustParse(t, []string{"--cache-key=flag"}, sources...).CacheKey; got != "flag" {
		t.Errorf("with a flag the key is %q", got)
	}
	if got := mustParse(t, []string{"--cache-key="}, "INPUT_CACHE-KEY= ", "WARMLAYER_CACHE_KEY=own").CacheKey; got != "own" {
		t.Errorf("an empty value sets the key to %q", got)
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	v := mustParse(t, []string{
		"--tags", "o/a,o/b", "--push", "--tags=o/c", ".", "--no-cache=false",
		"--build-args", "A=\"1\",\n2", "--secrets=k=one\ntwo", "--cache", "inline",
	})
	if want := []string{"docker.io/o/a:latest", "docker.io/o/b:latest", "docker.io/o/c:latest"}; !slices.Equal(v.Tags, want) {
		t.Errorf("tags are %v, want %v", v.Tags, want)
	}
	if !v.Push || v.NoCache || v.Context.Source != "." {
		t.Errorf("push %v, no-cache %v, context %q", v.Push, v.NoCache, v.Context.Source)
	}
	if want := []syntax.Pair{{Key: "A", Value: "\"1\",\n2"}}; !slices.Equal(v.BuildArgs, want) {
		t.Errorf("build arguments are %q, want %q", v.BuildArgs, want)
	}
	if want := []Secret{{"k", "one\ntwo"}}; !slices.Equal(v.Secrets, want) {
		t.Errorf("the secret is %q", v.Secrets[0].Value)
	}
}

func TestHyphensAndUnderscores(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil, "INPUT_CACHE-KEY=k", "INPUT_CACHE_KEY=k", "INPUT_NO_CACHE=True", "INPUT_PULL=TRUE")
	if v.CacheKey != "k" || !v.NoCache || !v.Pull {
		t.Errorf("key %q, no-cache %v, pull %v", v.CacheKey, v.NoCache, v.Pull)
	}
}

func TestReservedVariables(t *testing.T) {
	t.Parallel()
	mustParse(t, nil, "WARMLAYER_REQUIRE=registry", "INPUT_ARGS=build", "INPUT_SBOM=", "PLUGIN_FOO= ", "WARMLAYER_CACHE_HITS=3", "WARMLAYER_DIGEST=sha256:1")
}

func TestPluginLists(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, variable string
		got            func(Values) any
		want           any
	}{
		{"comma-joined words", "PLUGIN_TAGS=o/a,o/b", tags, []string{"docker.io/o/a:latest", "docker.io/o/b:latest"}},
		{"JSON words", `PLUGIN_TAGS=["o/a","o/b"]`, tags, []string{"docker.io/o/a:latest", "docker.io/o/b:latest"}},
		{"comma-joined entries", "PLUGIN_CACHE=type=registry,ref=r/a,type=inline", caches,
			[]syntax.Entry{{Line: 1, Type: "registry", Attrs: map[string]string{"ref": "r/a"}}, {Line: 2, Type: "inline", Attrs: map[string]string{}}}},
		{"JSON entries", `PLUGIN_CACHE=[{"type":"registry","ref":"r/a","ignore-error":true},"inline"]`, caches,
			[]syntax.Entry{{Line: 1, Type: "registry", Attrs: map[string]string{"ref": "r/a", "ignore-error": "true"}}, {Line: 2, Type: "inline", Attrs: map[string]string{}}}},
		{"commas in lines stay", "PLUGIN_BUILD_ARGS=A=1,B=2", buildArgs, []syntax.Pair{{Key: "A", Value: "1,B=2"}}},
		{"semicolons", "PLUGIN_BUILD_ARGS=A=1;B=2", buildArgs, []syntax.Pair{{Key: "A", Value: "1"}, {Key: "B", Value: "2"}}},
		{"semicolons beside newlines stay", "PLUGIN_BUILD_ARGS=A=1;2\nB=2", buildArgs, []syntax.Pair{{Key: "A", Value: "1;2"}, {Key: "B", Value: "2"}}},
		{"JSON object", `PLUGIN_BUILD_ARGS={"B":"2","A":1}`, buildArgs, []syntax.Pair{{Key: "A", Value: "1"}, {Key: "B", Value: "2"}}},
		{"semicolons in secrets stay", "PLUGIN_SECRETS=k=a;b=c", secrets, []Secret{{"k", "a;b=c"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.got(mustParse(t, nil, tt.variable)); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%s is %q, want %q", tt.variable, got, tt.want)
			}
		})
	}
}

func tags(v Values) any { return v.Tags }
func caches(v Values) any {
	var all []syntax.Entry
	for _, c := range v.Caches {
		all = append(all, c.Entry)
	}
	return all
}
func buildArgs(v Values) any { return v.BuildArgs }
func secrets(v Values) any   { return v.Secrets }

func TestBuildkite(t *testing.T) {
	t.Parallel()
	v := mustParse(t, nil, `BUILDKITE_PLUGIN_CONFIGURATION={
		"tags": ["o/a:1"], "push": true, "pull_request": 7, "unknown": null, "cache-key": null,
		"cache": [{"type": "registry", "ref": "r/a"}, "type=local,dest=x"],
		"build-args": {"MSG": "say \"hi\",\n# you"},
		"secrets": ["k=one\ntwo"]
	}`)
	if !v.Push || v.PullRequest != 7 || !slices.Equal(v.Tags, []string{"docker.io/o/a:1"}) {
		t.Errorf("push %v, pull request %d, tags %v", v.Push, v.PullRequest, v.Tags)
	}
	if want := []syntax.Pair{{Key: "MSG", Value: "say \"hi\",\n# you"}}; !slices.Equal(v.BuildArgs, want) {
		t.Errorf("build arguments are %q, want %q", v.BuildArgs, want)
	}
	if want := []Secret{{"k", "one\ntwo"}}; !slices.Equal(v.Secrets, want) {
		t.Errorf("the secret is %q", v.Secrets[0].Value)
	}
	want := []syntax.Entry{{Line: 1, Type: "registry", Attrs: map[string]string{"ref": "r/a"}}, {Line: 2, Type: "local", Attrs: map[string]string{"dest": "x"}}}
	if !reflect.DeepEqual(caches(v), any(want)) {
		t.Errorf("caches are %v, want %v", v.Caches, want)
	}
}
