package step

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/scope"
)

// An empty credential in a cache line is a secret that the CI withholds: an untrusted run goes
// without that cache and without another identity in its place, and a trusted one is refused.
func TestWithheldCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	trusted := scope.Facts{Branch: "main", Default: "main", Trusted: true}
	fork := scope.Facts{PR: 7, Default: "main", Untrusted: "a fork's pull request"}
	environ := Environment{"HOME=" + t.TempDir(), "ACTIONS_RESULTS_URL=https://results.example/", "ACTIONS_RUNTIME_TOKEN=t", "GITHUB_REPOSITORY=o/app"}
	for line, test := range map[string]struct{ cache, empty string }{
		"type=s3,bucket=b,region=r,access_key_id=,secret_access_key=":                  {"s3 b", "access_key_id, secret_access_key"},
		"type=s3,bucket=b,region=r,prefix=p,access_key_id=id,secret_access_key=":       {"s3 b/p", "secret_access_key"},
		"type=s3,bucket=b,region=r,access_key_id=a,secret_access_key=b,session_token=": {"s3 b", "session_token"},
		"type=azblob,account_url=https://a.example,container=ccc,secret_access_key=":   {"azblob ccc", "secret_access_key"},
		"type=gha,scope=web,ghtoken=":                                                  {"gha web", "ghtoken"},
		"type=gha,token=":                                                              {"gha", "token"},
	} {
		for _, input := range []string{"cache", "cache-from", "cache-to"} {
			in, problems := inputs.Parse([]string{"--cache=none", "--builder=embedded"}, nil, dir)
			if input == "cache" {
				in, problems = inputs.Parse([]string{"--cache=" + line, "--cache=type=local,dest=" + dir, "--builder=embedded"}, nil, dir)
			} else if len(problems) == 0 {
				in, problems = inputs.Parse([]string{"--cache=none", "--builder=embedded", "--" + input + "=" + line}, nil, dir)
			}
			if len(problems) > 0 {
				t.Fatal(line, problems)
			}
			host := Host{Environ: environ, Redactor: report.NewRedactor(nil)}
			run, problems := Resolve(in, fork, host)
			if len(problems) > 0 {
				t.Fatal(line, problems)
			}
			b := run.Builds[0]
			want := "cache " + test.cache + " is left out: " + test.empty + " is empty, as secrets are in runs that are not trusted (a fork's pull request)"
			if !slices.Equal(b.Warnings, []string{want}) {
				t.Errorf("%s=%s warns %q, want %q", input, line, b.Warnings, want)
			}
			if kept := len(b.Caches) + len(b.Inputs.CacheFrom) + len(b.Inputs.CacheTo); kept != map[string]int{"cache": 1}[input] {
				t.Errorf("%s=%s: %d caches remain", input, line, kept)
			}
			_, problems = Resolve(in, trusted, host)
			refused := strings.Contains(problems.Error(), test.empty+" is empty\nhint: give a value")
			if refused != (input == "cache") { // BuildKit takes an empty one in the others for one that is not there
				t.Errorf("%s=%s in a trusted run: %v", input, line, problems)
			}
		}
	}
}
