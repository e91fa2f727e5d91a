package login_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

const (
	user     = "me"
	password = "hunter2-canary"
)

// private is a registry that requires a password, and a build that pushes an image and its cache
// to it.
func private(t *testing.T) (testkit.Registry, testkit.Invocation) {
	t.Helper()
	registry := testkit.StartPrivateRegistry(t, user, password)
	return registry, testkit.Invocation{
		Dir: testkit.App(t), Branch: "main",
		Args: []string{"--tags", registry.Host + "/o/app:v1", "--push"},
	}
}

// hidden fails the test when the password is in the output of a build or in a file that it wrote.
func hidden(t *testing.T, out testkit.Output) {
	t.Helper()
	for _, form := range []string{password, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))} {
		if strings.Contains(out.Text+out.Files, form) {
			t.Errorf("a password is shown:\n%s", out.Text)
		}
	}
}

// TestLogins: with credentials from each source a build pushes an image and a cache, and the next
// one reads the cache. They leave no file behind, and show no password.
func TestLogins(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]func(host string) map[string]string{
		"registry": func(host string) map[string]string {
			return map[string]string{"INPUT_REGISTRY": host, "INPUT_USERNAME": user, "INPUT_PASSWORD": password}
		},
		"registry-auth": func(host string) map[string]string {
			return map[string]string{"INPUT_REGISTRY-AUTH": "- username: other\n  password: x-canary\n- registry: " + host + "\n  username: " + user + "\n  password: " + password}
		},
		"DOCKER_AUTH_CONFIG": func(host string) map[string]string {
			return map[string]string{"DOCKER_AUTH_CONFIG": `{"auths":{"` + host + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + `"}}}`}
		},
		"GitLab": func(host string) map[string]string {
			return map[string]string{
				"GITLAB_CI": "true", "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main",
				"CI_REGISTRY": host, "CI_REGISTRY_USER": user, "CI_REGISTRY_PASSWORD": password,
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry, build := private(t)
			home := t.TempDir()
			build.Env, build.Docker = env(registry.Host), filepath.Join(home, ".docker")
			build.Env["HOME"], build.Env["TMPDIR"] = home, testkit.Temp(t)
			if err := os.Mkdir(build.Docker, 0o700); err != nil {
				t.Fatal(err)
			}
			testkit.Write(t, filepath.Join(build.Docker, "config.json"), `{"auths":{"elsewhere.example":{"auth":"bWU6b3RoZXI="}}}`)
			before := files(t, home)
			for _, want := range []string{"absent", "loaded"} {
				out := build.Start(t)
				if out.Code != 0 || out.Report.Source("b-main") != want {
					t.Fatalf("exit code %d, cache %s:\n%s", out.Code, out.Report.Source("b-main"), out.Text)
				}
				hidden(t, out)
			}
			if after := files(t, home); !maps.EqualFunc(before, after, bytes.Equal) {
				t.Errorf("the files changed from %q to %q", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
			}
			if left := files(t, build.Env["TMPDIR"]); len(left) > 1 {
				t.Errorf("files remain: %q", slices.Sorted(maps.Keys(left)))
			}
		})
	}
}

// files are the paths below a directory, with the content of files and nil for directories.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		found[path] = nil
		if err == nil && !entry.IsDir() {
			found[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestWrongCredentials: without valid credentials the push and the step fail.
func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]map[string]string{
		"none":  {},
		"wrong": {"INPUT_USERNAME": user, "INPUT_PASSWORD": password + "-wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry, build := private(t)
			build.Env = env
			if len(env) > 0 {
				build.Env["INPUT_REGISTRY"] = registry.Host
			}
			out := build.Start(t)
			if out.Code != 1 || !strings.Contains(out.Text, "401") {
				t.Errorf("exit code %d:\n%s", out.Code, out.Text)
			}
			hidden(t, out)
		})
	}
}

// TestPrivateBase: the credentials are used to pull a private base image.
func TestPrivateBase(t *testing.T) {
	t.Parallel()
	registry, build := private(t)
	build.Env = map[string]string{"INPUT_REGISTRY": registry.Host, "INPUT_USERNAME": user, "INPUT_PASSWORD": password}
	build.Build(t)
	testkit.Write(t, filepath.Join(build.Dir, "Dockerfile"), "FROM "+registry.Host+"/o/app:v1\nRUN true\n")
	build.Args = []string{"--outputs", "type=cacheonly", "--cache", "none"}
	out := build.Start(t)
	if out.Code != 0 {
		t.Errorf("exit code %d:\n%s", out.Code, out.Text)
	}
	hidden(t, out)
	build.Env = nil
	if out := build.Start(t); out.Code != 1 {
		t.Errorf("without a login: exit code %d:\n%s", out.Code, out.Text)
	}
}

// bearing is a registry that accepts tokens. The user "reader" gets a token for pulls, and
// "writer" one for pulls and pushes.
func bearing(t *testing.T) (host string) {
	t.Helper()
	behind := testkit.StartRegistry(t)
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: behind.Host})
		r.Out.Host = r.In.Host // so that the URLs of uploads lead to the proxy
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wanted := "reader"
		if r.Method != http.MethodGet && r.Method != http.MethodHead || strings.Contains(r.URL.Path, "/uploads/") {
			wanted = "writer"
		}
		given := r.Header.Get("Authorization")
		switch {
		case r.URL.Path == "/token":
			// A form as in OAuth 2, or a header (distribution, "Token Authentication Specification").
			name, secret, ok := r.BasicAuth()
			if !ok {
				name, secret = r.PostFormValue("username"), r.PostFormValue("password")
			}
			if secret != password {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": name, "expires_in": 300})
		case given == "Bearer writer", given == "Bearer "+wanted:
			through.ServeHTTP(w, r)
		default:
			scope := ""
			if parts := strings.Split(r.URL.Path, "/"); len(parts) > 4 {
				scope = ",scope=\"repository:" + parts[2] + "/" + parts[3] + ":" + map[string]string{"reader": "pull", "writer": "pull,push"}[wanted] + "\""
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="test"`+scope)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// TestScopedLogin: of two logins for one registry each is used for its own repository and
// actions. The user's Docker config stays free of BuildKit's token seeds.
func TestScopedLogin(t *testing.T) {
	t.Parallel()
	host, home := bearing(t), t.TempDir()
	login := func(user, scope string) string {
		return "- {registry: " + host + ", username: " + user + ", password: " + password + ", scope: '" + scope + "'}\n"
	}
	build := testkit.Invocation{
		Dir: testkit.App(t), Branch: "main", Docker: filepath.Join(home, ".docker"),
		Args: []string{"--tags", host + "/o/app:v1", "--push", "--cache", "none"},
	}
	for _, test := range []struct {
		auth string
		code int
	}{
		{login("reader", ""), 1},
		{login("reader", "") + login("writer", "o/other@push"), 1},
		{login("reader", "") + login("writer", "o/app@push"), 0},
	} {
		build.Env = map[string]string{"INPUT_REGISTRY-AUTH": test.auth, "HOME": home, "TMPDIR": testkit.Temp(t)}
		out := build.Start(t)
		if out.Code != test.code {
			t.Errorf("%s\nexit code %d:\n%s", strings.ReplaceAll(test.auth, password, "***"), out.Code, out.Text)
		}
		hidden(t, out)
		for _, dir := range []string{home, build.Env["TMPDIR"]} {
			if left := files(t, dir); len(left) > 1 {
				t.Errorf("files remain: %q", slices.Sorted(maps.Keys(left)))
			}
		}
	}
}
