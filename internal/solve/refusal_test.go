package solve_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// endless is an app whose build does not end by itself.
func endless(t *testing.T) string {
	t.Helper()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nRUN tail -f /dev/null\n")
	return app
}

// byWarmlayer tells warmlayer's requests from BuildKit's.
func byWarmlayer(r *http.Request) bool { return !byBuildKit(r) }

// dockerConfig is the directory of a Docker config with a login.
func dockerConfig(t *testing.T, host, user, password string) string {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, host, user, password)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPushRefused: a push that cannot succeed ends the build at once. The error names the registry,
// the user and where the login comes from.
func TestPushRefused(t *testing.T) {
	t.Parallel()
	const password = "canary-77c1"
	private := testkit.StartPrivateRegistry(t, "bob", "right").Host
	forbidding := newProxy(t)
	forbidding.misbehave(status(403, "DENIED"), method("POST"))
	remote := testkit.StartBuildkitd(t)
	tests := []struct {
		name, image, docker, builder string
		what, next                   string
	}{
		{"no login", private + "/app", "", "embedded",
			private + " does not accept the login (401), or there is no such repository", "no login for " + private + " was found"},
		{"wrong password", private + "/app", dockerConfig(t, private, "bob", password), "embedded",
			private + " does not accept the login (401), or there is no such repository", "the user was bob, from the Docker config "},
		{"forbidden", forbidding.Host + "/app", dockerConfig(t, forbidding.Host, "eve", password), "embedded",
			forbidding.Host + " refuses access (403)", "the user was eve, from the Docker config "},
		{"forbidden, remote builder", forbidding.Host + "/app", "", remote,
			forbidding.Host + " refuses access (403)", "no login for " + forbidding.Host + " was found"},
		{"no such host", "registry.invalid/app", "", "embedded", "there is no host registry.invalid", "check the name"},
		{"nobody listens", "127.0.0.1:1/app", "", "embedded", "nothing listens at 127.0.0.1:1 (connection refused)", "the port"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			run := build(endless(t), "--cache", "none", "--push", "--tags", test.image+":v1", "--builder", test.builder, "--probe-timeout", "20s")
			run.Docker, run.Env = test.docker, map[string]string{"GITHUB_ACTIONS": "true"}
			out := run.Start(t)
			what := "pushing " + test.image + ": " + test.what
			if out.Code != 1 || out.Report.OK {
				t.Errorf("exit code %d", out.Code)
			}
			for _, line := range []string{"\n  error  " + what + "\n", "\n         next: ", test.next, "\n::error title=warmlayer::" + what} {
				if !strings.Contains(out.Text, line) {
					t.Errorf("the log lacks %q:\n%s", line, out.Text)
				}
			}
			if !strings.Contains(out.Files, fmt.Sprintf(`"what": %q`, what)) {
				t.Errorf("the report lacks it:\n%s", out.Files)
			}
			if strings.Contains(out.Text+out.Files, password) {
				t.Error("the password is shown")
			}
		})
	}
}

// TestPushUnclear: an answer that proves nothing does not stop a build, which pushes its image. Only
// warmlayer's own requests get it.
func TestPushUnclear(t *testing.T) {
	t.Parallel()
	answers := map[string]http.HandlerFunc{
		"hangs": hang, "500": status(500, "UNKNOWN"), "503": status(503, "UNAVAILABLE"), "429": status(429, "TOOMANYREQUESTS"),
		"not made yet": status(404, "NAME_UNKNOWN"), "not supported": status(405, "UNSUPPORTED"), "odd": status(418, "TEAPOT"),
		"full": status(403, "no space left on device"), "cut off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			p.misbehave(answer, byWarmlayer, method("POST"))
			out := build(testkit.App(t), "--cache", "none", "--push", "--tags", p.Host+"/app:v1", "--probe-timeout", "5s").Start(t)
			p.behave()
			if out.Code != 0 || strings.Contains(out.Text, "\n  warn ") || p.get(t, "/v2/app/manifests/v1") == "" {
				t.Errorf("exit code %d:\n%s", out.Code, out.Text)
			}
		})
	}
}

// TestCacheRefused: a cache that cannot be written is left out, and the image is pushed. With
// cache-strict the exit code is 3.
func TestCacheRefused(t *testing.T) {
	t.Parallel()
	for _, input := range []string{"--cache", "--cache-to"} {
		for code, strict := range map[int]string{0: "--cache-strict=false", 3: "--cache-strict"} {
			t.Run(input+" "+strict, func(t *testing.T) {
				t.Parallel()
				p := newProxy(t)
				var asked atomic.Int32
				p.misbehave(func(w http.ResponseWriter, r *http.Request) {
					if byBuildKit(r) {
						asked.Add(1)
					}
					status(403, "DENIED")(w, r)
				}, method("POST", "PUT"), path("/v2/one/"))
				run := build(testkit.App(t), input, "type=registry,ref="+p.Host+"/one:c,mode=max", strict, "--push", "--tags", p.Host+"/image:v1")
				if input != "--cache" {
					run.Args = append(run.Args, "--cache", "none")
				}
				out := run.Start(t)
				const want = "the credentials do not permit it; "
				if out.Code != code || out.Report.Outcome(t) != "failed" || !strings.HasPrefix(out.Report.Exports[0].Error, want) ||
					!strings.Contains(out.Report.Exports[0].Error, "no login for "+p.Host) {
					t.Errorf("exit code %d, exports %+v:\n%s", out.Code, out.Report.Exports, out.Text)
				}
				if n := strings.Count(out.Text, want); n != 1 {
					t.Errorf("the log says so %d times:\n%s", n, out.Text)
				}
				if asked.Load() > 0 || p.get(t, "/v2/image/manifests/v1") == "" {
					t.Errorf("BuildKit asked the cache's registry %d times", asked.Load())
				}
			})
		}
	}
}
