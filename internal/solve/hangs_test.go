package solve_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gofrs/flock"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// stalls is a store, of which the proxy gives no answer to requests that upload.
type stalls struct {
	cache  string // its line
	env    map[string]string
	proxy  *proxy
	upload []func(*http.Request) bool
}

// stalling starts a store of each kind that warmlayer writes over HTTP.
var stalling = map[string]func(t *testing.T) stalls{
	"s3": func(t *testing.T) stalls {
		s := testkit.StartS3(t)
		p := newProxyBefore(t, s.Address())
		return stalls{s.At(p.Host), nil, p, []func(*http.Request) bool{method("PUT"), path("/blobs/")}}
	},
	"azblob": func(t *testing.T) stalls {
		s := testkit.StartAzblob(t)
		p := newProxyBefore(t, s.Address())
		return stalls{s.At(p.Host), nil, p, []func(*http.Request) bool{method("PUT"), path("/blobs/")}}
	},
	"gha": func(t *testing.T) stalls {
		var p *proxy
		g := testkit.StartGHABehind(t, func(url string) string {
			host, rest, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
			p = newProxyBefore(t, host) // the last one is before the service
			if rest != "" {
				rest = "/" + rest
			}
			return "http://" + p.Host + rest
		})
		return stalls{"type=gha", g.Env(g.Token("refs/heads/main")), p, []func(*http.Request) bool{path("CreateCacheEntry")}}
	},
}

// TestUploadHangs: a store that does not answer an upload costs a warning, and the others are
// written. The build is signalled while it waits for one, too.
func TestUploadHangs(t *testing.T) {
	t.Parallel()
	for kind, start := range stalling {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, app, dir := start(t), testkit.App(t), filepath.Join(testkit.Temp(t), "cache")
			var reached atomic.Bool
			s.proxy.misbehave(func(w http.ResponseWriter, r *http.Request) {
				reached.Store(true)
				hang(w, r)
			}, s.upload...)
			r := build(app, "--cache", s.cache+"\ntype=local,dest="+dir, "--cache-timeout", "16s")
			r.Env = s.env
			out := r.Start(t)
			if out.Code != 0 || out.Report.Digest == "" && !out.Report.OK || !reached.Load() {
				t.Fatalf("exit code %d:\n%s", out.Code, out.Text)
			}
			if e := out.Report.Exports; len(e) != 2 || e[0].Outcome != "failed" || !strings.Contains(e[0].Error, "8s") || e[1].Outcome != "written" {
				t.Errorf("exports %+v", e)
			}
			reached.Store(false)
			again := build(app, "--cache", s.cache)
			again.Env = s.env
			cancelled(t, again, func(string, string) bool { return reached.Load() }, syscall.SIGTERM)
		})
	}
}

// TestCommitCancelled: a signal ends a commit that waits, and the index is the old one.
func TestCommitCancelled(t *testing.T) {
	t.Parallel()
	t.Run("for the lock of the index", func(t *testing.T) {
		t.Parallel()
		app, dir := testkit.App(t), filepath.Join(testkit.Temp(t), "cache")
		cache := testkit.Cache{Line: "type=local,dest=" + dir}
		build(app, "--cache", cache.Line).Build(t)
		before := manifest(t, cache, "b-main")
		change(t, app)
		lock := flock.New(filepath.Join(dir, "index.json.lock"))
		if ok, err := lock.TryLock(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		defer lock.Unlock() //nolint:errcheck // it ends with the test
		cancelled(t, build(app, "--cache", cache.Line), func(string, string) bool { return manifests(t, dir) == 2 }, syscall.SIGTERM)
		unchanged(t, cache, before)
		if left, err := os.ReadDir(filepath.Join(dir, "ingest")); err != nil || len(left) > 0 {
			t.Errorf("unfinished files %v, %v", left, err)
		}
	})
	t.Run("for the answer of a registry", func(t *testing.T) {
		t.Parallel()
		p, app := newProxy(t), testkit.App(t)
		cache := p.cache("one")
		build(app, "--cache", cache.Line).Build(t)
		before := manifest(t, cache, "b-main")
		change(t, app)
		var reached atomic.Bool
		p.misbehave(func(w http.ResponseWriter, r *http.Request) {
			reached.Store(true)
			hang(w, r)
		}, path("/v2/one/manifests/"), method("PUT"))
		cancelled(t, build(app, "--cache", cache.Line), func(string, string) bool { return reached.Load() }, syscall.SIGTERM)
		p.behave()
		unchanged(t, cache, before)
	})
}

// manifests counts the manifests with a record in a directory.
func manifests(t *testing.T, dir string) int {
	t.Helper()
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range blobs {
		if content, err := os.ReadFile(path); err == nil && strings.Contains(string(content), "dev.warmlayer.") {
			n++
		}
	}
	return n
}

// unchanged checks that main's scope is as it was, and complete.
func unchanged(t *testing.T, cache testkit.Cache, before backends.Manifest) {
	t.Helper()
	after := manifest(t, cache, "b-main")
	missing, err := storage.Missing(t.Context(), cache.Scopes(t), after.Blobs())
	if string(after.Raw) != string(before.Raw) || err != nil || len(missing) > 0 {
		t.Errorf("the cache was %s and is %s; %d blobs are missing, %v", before.Raw, after.Raw, len(missing), err)
	}
}

// TestDeadDirectory: directories that do not answer cost warnings, within the timeouts, wherever
// they are named and whoever reads them. A signal ends the build while it waits for one.
func TestDeadDirectory(t *testing.T) {
	t.Parallel()
	for name, remote := range map[string]bool{"managed": false, "remote": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dead, app := testkit.DeadMount(t), testkit.App(t)
			r := build(app, "--cache", "type=local,dest="+dead+"/scoped",
				"--cache-from", "type=local,src="+dead+"/from", "--cache-to", "type=local,dest="+dead+"/to")
			if remote {
				r.Args = append(r.Args, "--builder", testkit.StartBuildkitd(t))
			}
			bounded := r
			bounded.Args = append([]string{"--probe-timeout", "1s", "--cache-timeout", "2s"}, r.Args...)
			out := bounded.Start(t)
			if out.Code != 0 || !out.Report.OK {
				t.Fatalf("exit code %d:\n%s", out.Code, out.Text)
			}
			if s := out.Report.Sources; len(s) != 2 || s[0].State != "failed" || s[1].State != "failed" ||
				!strings.Contains(s[0].Error, "no answer within 1s (probe-timeout)") || !strings.Contains(s[1].Error, "no answer within 1s (probe-timeout)") {
				t.Errorf("sources %+v", s)
			}
			if e := out.Report.Exports; len(e) != 2 || e[0].Outcome != "failed" || e[1].Outcome != "failed" {
				t.Errorf("exports %+v", e)
			}
			if remote {
				return // nothing shows when the directory is read
			}
			r.Args = append([]string{"--probe-timeout", "5m"}, r.Args...)
			cancelled(t, r, func(_, temp string) bool {
				started, err := filepath.Glob(filepath.Join(temp, "warmlayer-*", "buildkitd.sock"))
				return err == nil && len(started) > 0
			}, syscall.SIGTERM)
		})
	}
}
