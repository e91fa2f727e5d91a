package step

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// several are inputs for two builders, with a Dockerfile that begins with the given text.
func several(t *testing.T, dockerfile string) inputs.Values {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile+"FROM scratch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	in, problems := inputs.Parse([]string{
		"--tags", "ghcr.io/o/app:1", "--push",
		"--builder", "ssh://a;platforms=linux/amd64", "--builder", "ssh://b;platforms=linux/arm64",
		"--cache", "type=registry,ref=ghcr.io/o/app", "--cache", "type=s3,bucket=b,region=r,access_key_id=k,secret_access_key=s",
		"--cache-from", "type=s3,bucket=c,region=r,access_key_id=k,secret_access_key=s", "--cache-from", "type=registry,ref=ghcr.io/o/app:cache",
		"--cache-to", "type=gha", "--cache-to", "type=local,dest=/c",
	}, nil, dir)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return in
}

func resolve(t *testing.T, in inputs.Values, facts scope.Facts) Run {
	t.Helper()
	run, problems := Resolve(in, facts, Host{
		Environ: Environment{"HOME=" + t.TempDir()}, Redactor: report.NewRedactor(nil),
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return run
}

// Each of several builds leaves out the caches that an untrusted build must not have, and the
// inputs, which all builds share, keep them.
func TestResolveSharesNothing(t *testing.T) {
	t.Parallel()
	in := several(t, "# syntax=evil.example/fe\n")
	before := several(t, "# syntax=evil.example/fe\n")
	facts := scope.Facts{Branch: "x", Default: "main", Untrusted: "a fork's pull request"}
	run := resolve(t, in, facts)
	if !reflect.DeepEqual(in.CacheFrom, before.CacheFrom) || !reflect.DeepEqual(in.CacheTo, before.CacheTo) {
		t.Errorf("Resolve changed its inputs: %v, %v", in.CacheFrom, in.CacheTo)
	}
	if len(run.Builds) != 2 {
		t.Fatalf("%d builds", len(run.Builds))
	}
	for _, b := range run.Builds {
		if len(b.Caches) != 1 || b.Caches[0].String() != "registry ghcr.io/o/app" {
			t.Errorf("%s keeps the caches %v", b.name(), b.Caches)
		}
		if len(b.Inputs.CacheFrom) != 1 || b.Inputs.CacheFrom[0].Type != "registry" {
			t.Errorf("%s reads %v", b.name(), b.Inputs.CacheFrom)
		}
		if len(b.Inputs.CacheTo) != 1 || b.Inputs.CacheTo[0].Type != "local" {
			t.Errorf("%s writes %v", b.name(), b.Inputs.CacheTo)
		}
		if len(b.Warnings) != 3 || !strings.Contains(strings.Join(b.Warnings, "\n"), "cache s3 c is left out: the frontend evil.example/fe") {
			t.Errorf("%s warns %q", b.name(), b.Warnings)
		}
	}
	if again := resolve(t, in, facts); !reflect.DeepEqual(again.Plan(), run.Plan()) {
		t.Errorf("the second plan is %v, want %v", again.Plan(), run.Plan())
	}
}

// One builder gives one build; of several builds each writes its own scope.
func TestResolveBuilds(t *testing.T) {
	t.Parallel()
	facts := scope.Facts{Branch: "main", Default: "main", Trusted: true}
	run := resolve(t, several(t, ""), facts)
	if got, want := run.Plan().Write, run.Builds[0].Plan.Write+","+run.Builds[1].Plan.Write; got != want || run.Builds[0].Plan.Write == run.Builds[1].Plan.Write {
		t.Errorf("the builds write %q, want %q", got, want)
	}
	for _, b := range run.Builds {
		if len(b.Caches) != 2 || len(b.Inputs.CacheFrom) != 2 || len(b.Inputs.CacheTo) != 2 || len(b.Warnings) != 0 {
			t.Errorf("%s: %v, %v, %v, %q", b.name(), b.Caches, b.Inputs.CacheFrom, b.Inputs.CacheTo, b.Warnings)
		}
	}
	in, problems := inputs.Parse([]string{"--builder", "embedded", "--cache", "none"}, nil, ".")
	if len(problems) > 1 { // there is no Dockerfile here
		t.Fatal(problems)
	}
	if one := resolve(t, in, facts); len(one.Builds) != 1 {
		t.Errorf("%d builds on one builder", len(one.Builds))
	}
}

// A builder that runs already does not get the authorities, which a warning says.
func TestAuthoritiesOfRemoteBuilder(t *testing.T) {
	t.Parallel()
	for address, warnings := range map[string]int{"embedded": 0, "ssh://a": 1} {
		in, problems := inputs.Parse([]string{"--builder", address}, nil, t.TempDir())
		if problems = slices.DeleteFunc(problems, func(p syntax.Problem) bool { return p.Input == "file" }); len(problems) > 0 {
			t.Fatal(problems)
		}
		in.Managed.Authorities = "-----BEGIN CERTIFICATE-----"
		run := resolve(t, in, scope.Facts{Branch: "main", Default: "main", Trusted: true})
		if got := run.Builds[0].Warnings; len(got) != warnings {
			t.Errorf("%s: warnings %q", address, got)
		}
	}
}

// GitHub's cache is left out too: its entries carry the runner's token, whichever Git refs
// the token reaches.
func TestGuardKnowsGitHubsToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("# syntax=evil.example/fe\nFROM scratch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	in, problems := inputs.Parse([]string{"--builder", "ssh://a", "--cache", "gha"}, nil, dir)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	environ := Environment{
		"HOME=" + t.TempDir(), "ACTIONS_RESULTS_URL=https://results.example/",
		"ACTIONS_RUNTIME_TOKEN=" + testkit.NewActionsCache(nil).Token("refs/pull/7/merge", "refs/heads/main"),
	}
	facts := scope.Facts{PR: 7, Default: "main", Untrusted: "a fork's pull request"}
	run, problems := Resolve(in, facts, Host{Environ: environ, Redactor: report.NewRedactor(nil)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if b := run.Builds[0]; len(b.Caches) != 0 || len(b.Warnings) != 1 {
		t.Errorf("caches %v, warnings %q", b.Caches, b.Warnings)
	}
}

// An untrusted run gets the job's token for a Git context only when the workflow sets it: each
// step could read it. The Action marks its default.
func TestUntrustedRunsGetNoTokenByDefault(t *testing.T) {
	t.Parallel()
	trusted := scope.Facts{Branch: "main", Default: "main", Trusted: true}
	target := scope.Facts{Event: "pull_request_target", PR: 7, Default: "main", Unlisted: true, Untrusted: scope.Fork}
	for _, tt := range []struct {
		name, token, secrets string
		facts                scope.Facts
		want                 string // the secrets that remain, with their values
		warns                bool
	}{
		{"default, trusted", "default:ghs_job", "", trusted, "GIT_AUTH_TOKEN.github.com=ghs_job", false},
		{"default, untrusted", "default:ghs_job", "", target, "", true},
		{"default, untrusted, with another secret", "default:ghs_job", "a=ghs_job", target, "a=ghs_job", true},
		{"default, untrusted, with a token of its own", "default:ghs_job", "GIT_AUTH_TOKEN=mine", target, "GIT_AUTH_TOKEN=mine", false},
		{"set, trusted", "ghs_job", "", trusted, "GIT_AUTH_TOKEN.github.com=ghs_job", false},
		{"set, untrusted", "ghs_job", "", target, "GIT_AUTH_TOKEN.github.com=ghs_job", false},
		{"no token", "default:", "", target, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in, problems := inputs.Parse(nil, []string{
				"INPUT_CONTEXT=https://github.com/o/r.git", "INPUT_GITHUB-TOKEN=" + tt.token, "INPUT_SECRETS=" + tt.secrets, "INPUT_CACHE=none",
			}, t.TempDir())
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if tt.token != "default:" && !slices.Contains(in.Sensitive(), "ghs_job") {
				t.Error("the token is not redacted")
			}
			build := resolve(t, in, tt.facts).Builds[0]
			var got []string
			for _, s := range build.Inputs.Secrets {
				got = append(got, s.ID+"="+s.Value)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("secrets %q, want %q", got, tt.want)
			}
			if warns := strings.Contains(strings.Join(build.Warnings, "\n"), "the job's token is withheld from Git contexts"); warns != tt.warns {
				t.Errorf("warnings %q", build.Warnings)
			}
		})
	}
}

// A build whose steps were cached less than fail-below asks for fails, after everything else.
func TestFailBelow(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		below  float64
		cached []bool
		want   string
	}{
		{0, []bool{false}, ""},
		{0.5, []bool{true, false}, ""},
		{0.51, []bool{true, false}, "fail-below: 1 of 2 steps were cached, and a ratio of at least 0.51 is wanted"},
		{1, []bool{true, true}, ""},
		{1, nil, ""},
	} {
		var result solve.Result
		for _, cached := range test.cached {
			result.Steps = append(result.Steps, solve.Step{Cached: cached})
		}
		r := Run{Inputs: inputs.Values{FailBelow: test.below}}
		if got := r.cold(result); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
		want := ExitOK
		if test.want != "" {
			want = ExitCache
		}
		if code := r.exitCode(t.Context(), report.Report{Result: result}); code != want {
			t.Errorf("%+v: exit code %d", test, code)
		}
	}
}
