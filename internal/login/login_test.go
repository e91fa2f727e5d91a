package login

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/warmlayer/warmlayer/internal/ci"
)

// noClouds are for tests that ask no cloud.
var noClouds = clouds{}

// docker parses a Docker config.
func docker(t *testing.T, text string) *configfile.ConfigFile {
	t.Helper()
	c, err := config.LoadFromReader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// variables is an environment.
func variables(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func newRegistries(t *testing.T, o Options) *Registries {
	t.Helper()
	if o.clouds == nil {
		o.clouds = noClouds
	}
	r, problems := New(o)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return r
}

// asked is user:password for a host and scopes, as BuildKit asks.
func asked(t *testing.T, r *Registries, host string, scopes ...string) string {
	t.Helper()
	auth, err := r.AuthConfig(t.Context(), host, scopes, nil)
	if err != nil {
		t.Fatal(err)
	}
	return auth.Username + ":" + auth.Password
}

// resolved is user:password for a repository, as go-containerregistry asks.
func resolved(t *testing.T, r *Registries, repository string) string {
	t.Helper()
	repo, err := name.NewRepository(repository)
	if err != nil {
		t.Fatal(err)
	}
	found, err := r.Resolve(repo)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := found.Authorization()
	if err != nil {
		t.Fatal(err)
	}
	return auth.Username + ":" + auth.Password
}

// given are the credentials of a job with these variables and a GitHub token, "" for none.
func given(token string, environ ...string) []ci.Credential {
	dialect, _ := ci.Detect(ci.Machine{Environ: environ, ReadFile: os.ReadFile})
	return dialect.Credentials(token)
}

// TestOrder: the first source that has credentials for a registry is used.
func TestOrder(t *testing.T) {
	t.Parallel()
	explicit := Inputs{Registry: "ghcr.io", Username: "input", Password: "1"}
	variable := `{"auths":{"ghcr.io":{"auth":"` + basic("variable", "2") + `","email":"x"}}}`
	file := docker(t, `{"auths":{"ghcr.io":{"auth":"`+basic("file", "3")+`"}}}`)
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{Inputs: explicit, Getenv: variables("DOCKER_AUTH_CONFIG", variable), Docker: file, CI: given("t")}, "input:1"},
		{Options{Getenv: variables("DOCKER_AUTH_CONFIG", variable), Docker: file, CI: given("t")}, "variable:2"},
		{Options{Docker: file, CI: given("t")}, "file:3"},
		{Options{CI: given("t", "GITHUB_ACTOR=octocat")}, "octocat:t"},
		{Options{CI: given("t")}, "x-access-token:t"},
		{Options{CI: given("t", "GITHUB_SERVER_URL=https://github.com")}, "x-access-token:t"},
		{Options{CI: given("t", "GITHUB_SERVER_URL=https://git.example")}, ":"},
		{Options{CI: given("t"), Untrusted: "a fork's pull request"}, ":"},
		{Options{Inputs: explicit, Untrusted: "a fork's pull request"}, "input:1"},
		{Options{Docker: file, Untrusted: "a fork's pull request"}, "file:3"},
		{Options{}, ":"},
	} {
		r := newRegistries(t, test.options)
		if got := asked(t, r, "ghcr.io"); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
		if got := resolved(t, r, "ghcr.io/o/app"); got != test.want {
			t.Errorf("go-containerregistry gets %s, want %s", got, test.want)
		}
		if got := asked(t, r, "quay.io"); got != ":" {
			t.Errorf("another registry gets %s", got)
		}
	}
}

// TestFrom: a message can say whose credentials were used, and where they come from.
func TestFrom(t *testing.T) {
	t.Parallel()
	const pushing = "repository:o/app:pull,push"
	several := Inputs{RegistryAuth: "- registry: ghcr.io\n  username: all\n  password: s1\n- registry: ghcr.io\n  scope: o/app@push\n  username: pusher\n  password: s2\n"}
	file := docker(t, `{"auths":{"ghcr.io":{"auth":"`+basic("file", "s3")+`"}}}`)
	file.Filename = "c/config.json"
	helper := docker(t, `{"auths":{"ghcr.io":{}},"credsStore":"none-such"}`)
	for _, test := range []struct {
		options Options
		want    Login
	}{
		{Options{Inputs: Inputs{Registry: "ghcr.io", Username: "input", Password: "s4"}}, Login{"input", "the inputs registry, username and password"}},
		{Options{Inputs: several}, Login{"pusher", "the input registry-auth, line 4"}},
		{Options{Docker: file}, Login{"file", "the Docker config c/config.json"}},
		{Options{Docker: helper}, Login{}},
		{Options{CI: given("t", "GITHUB_ACTOR=octocat")}, Login{"octocat", "the credentials that the CI gives to each job"}},
		{Options{Getenv: variables("DOCKER_AUTH_CONFIG", `{"auths":{"ghcr.io":{"auth":"`+basic("variable", "s5")+`"}}}`)}, Login{"variable", "the variable DOCKER_AUTH_CONFIG"}},
		{Options{}, Login{}},
	} {
		r := newRegistries(t, test.options)
		if got := r.Login(t.Context(), "ghcr.io", pushing); got != test.want {
			t.Errorf("%+v, want %+v", got, test.want)
		}
	}
}

// TestHub: Docker Hub has four names.
func TestHub(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"input":    {Inputs: Inputs{Username: "me", Password: "secret"}},
		"file":     {Docker: docker(t, `{"auths":{"https://index.docker.io/v1/":{"auth":"`+basic("me", "secret")+`"}}}`)},
		"variable": {Getenv: variables("DOCKER_AUTH_CONFIG", `{"auths":{"docker.io":{"auth":"`+basic("me", "secret")+`"}}}`)},
	} {
		r := newRegistries(t, o)
		for _, host := range []string{"registry-1.docker.io", "docker.io", "dhi.io"} {
			if got := asked(t, r, host); got != "me:secret" {
				t.Errorf("%s: %s gets %s", name, host, got)
			}
		}
		for _, repository := range []string{"app", "docker.io/library/app"} {
			if got := resolved(t, r, repository); got != "me:secret" {
				t.Errorf("%s: %s gets %s", name, repository, got)
			}
		}
	}
}

func TestGitLab(t *testing.T) {
	t.Parallel()
	job := given("", "GITLAB_CI=true",
		"CI_REGISTRY=registry.gitlab.example", "CI_REGISTRY_USER=job", "CI_REGISTRY_PASSWORD=one",
		"CI_DEPENDENCY_PROXY_SERVER=gitlab.example:443", "CI_DEPENDENCY_PROXY_USER=proxy", "CI_DEPENDENCY_PROXY_PASSWORD=two")
	for host, want := range map[string]string{
		"registry.gitlab.example": "job:one", "gitlab.example:443": "proxy:two", "gitlab.example": "proxy:two", "ghcr.io": ":",
	} {
		if got := asked(t, newRegistries(t, Options{CI: job}), host); got != want {
			t.Errorf("%s gets %s, want %s", host, got, want)
		}
		if got := asked(t, newRegistries(t, Options{CI: job, Untrusted: "a fork's merge request"}), host); got != ":" {
			t.Errorf("an untrusted run gets %s for %s", got, host)
		}
	}
}

// TestScopes: a login that is limited to a repository or to actions is used for these only.
func TestScopes(t *testing.T) {
	t.Parallel()
	given := Inputs{RegistryAuth: `
- {registry: r.example, username: all, password: p}
- {registry: r.example, username: push, password: p, scope: "@push"}
- {registry: r.example, username: app, password: p, scope: o/app}
- {registry: r.example, username: app-push, password: p, scope: o/app@push}
`}
	for _, test := range []struct{ scopes, want string }{
		{"", "all:p"},
		{"repository:o/other:pull", "all:p"},
		{"repository:o/other:pull,push", "push:p"},
		{"repository:o/app:pull", "app:p"},
		{"repository:o/app:pull,push", "app-push:p"},
		{"repository:o/app:pull,push repository:o/other:pull", "all:p"},
	} {
		if got := asked(t, newRegistries(t, Options{Inputs: given}), "r.example", test.scopes); got != test.want {
			t.Errorf("%q gets %s, want %s", test.scopes, got, test.want)
		}
	}
	if got := resolved(t, newRegistries(t, Options{Inputs: given}), "r.example/o/app"); got != "app:p" {
		t.Errorf("go-containerregistry gets %s", got)
	}
}

// TestHelper: a credential helper is asked once for each registry that is in no input, and for
// Docker Hub with the key that docker login uses.
func TestHelper(t *testing.T) {
	dir := t.TempDir()
	const helper = `#!/bin/sh
read -r server
echo "$server" >> "$0.log"
case $server in
https://index.docker.io/v1/ | ghcr.io) printf '{"ServerURL":"%s","Username":"me","Secret":"hunter2"}' "$server" ;;
broken.example) echo something is amiss; exit 1 ;;
*) echo credentials not found in native keychain; exit 1 ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	var redacted []string
	r := newRegistries(t, Options{
		Docker: docker(t, `{"credsStore":"test"}`), Redact: func(s string) { redacted = append(redacted, s) },
		Inputs: Inputs{Registry: "ghcr.io", Username: "input", Password: "p"},
	})
	for range 2 {
		for host, want := range map[string]string{"registry-1.docker.io": "me:hunter2", "ghcr.io": "input:p", "quay.io": ":"} {
			if got := asked(t, r, host); got != want {
				t.Errorf("%s gets %s, want %s", host, got, want)
			}
		}
	}
	if _, err := r.AuthConfig(t.Context(), "broken.example", nil, nil); err == nil || !strings.Contains(err.Error(), "something is amiss") {
		t.Errorf("a helper that fails: %v", err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "docker-credential-test.log"))
	if err != nil || strings.Count(string(log), "index.docker.io") != 1 || strings.Contains(string(log), "ghcr.io") {
		t.Errorf("the helper was asked for\n%s%v", log, err)
	}
	if !slices.Contains(redacted, "hunter2") {
		t.Errorf("the redacted secrets are %q", redacted)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{Inputs: Inputs{Registry: "ghcr.io"}}, "registry: username and password are missing\nhint: add both; only registries of AWS, Azure and Google accept the machine's identity instead"},
		{Options{Inputs: Inputs{RegistryAuth: "\n\n- registry: x.azurecr.io.example"}}, "registry-auth: line 3: username and password are missing"},
		{Options{Inputs: Inputs{RegistryAuth: "\n\n- {registry: public.ecr.aws, ecr: false}"}}, "registry-auth: line 3: username and password are missing"},
		{Options{Inputs: Inputs{Registry: "x.azurecr.io"}}, ""},
		{Options{Getenv: variables("DOCKER_AUTH_CONFIG", "hunter2")}, "DOCKER_AUTH_CONFIG: the value is not the JSON of a Docker config"},
		{Options{Getenv: variables("DOCKER_AUTH_CONFIG", `{"auths":{"a.example":{"auth":"hunter2"}}}`)}, "DOCKER_AUTH_CONFIG: the auth of a registry is not user:password in base64"},
	} {
		_, problems := New(test.options)
		if got := problems.Error(); !strings.HasPrefix(got, test.want) || test.want == "" && got != "" || strings.Contains(got, "hunter2") {
			t.Errorf("%s\nwant %s", got, test.want)
		}
	}
}
