package solve_test

import (
	"cmp"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// faults are ways in which a store fails to deliver a blob that it reported as present.
var faults = []struct {
	name   string
	answer func(content string) http.HandlerFunc
}{
	{"gone", func(string) http.HandlerFunc { return status(404, "BLOB_UNKNOWN") }},
	{"500", func(string) http.HandlerFunc { return status(500, "UNKNOWN") }},
	{"denied", func(string) http.HandlerFunc { return status(403, "DENIED") }},
	{"cut off", func(s string) http.HandlerFunc { return sending(s[:len(s)/2], int64(len(s))) }},
	{"short", func(s string) http.HandlerFunc { return sending(s[:len(s)/2], int64(len(s)/2)) }},
	{"wrong", func(s string) http.HandlerFunc { return sending(strings.Repeat("x", len(s)), int64(len(s))) }},
	{"hangs", func(string) http.HandlerFunc { return hang }},
}

// ways are the ways in which BuildKit reads the cache in a proxy's repositories.
var ways = []struct {
	name   string
	args   func(*testing.T, *proxy) []string
	merged bool // the gateway has read the cache, and serves it from memory
}{
	{"one registry", func(_ *testing.T, p *proxy) []string { return []string{"--cache", p.cache("one").Line} }, true},
	{"one registry, whose layers mount", func(_ *testing.T, p *proxy) []string {
		return []string{"--cache", p.cache("one").Line, "--outputs", "type=image,push=true,rewrite-timestamp=true,name=" + p.Host + "/image:v1"}
	}, false},
	{"two through the gateway", func(_ *testing.T, p *proxy) []string {
		return []string{"--cache", p.cache("one").Line + "\n" + p.cache("two").Line}
	}, true},
	{"remote builder", func(t *testing.T, p *proxy) []string {
		return []string{"--cache", p.cache("one").Line, "--builder", testkit.StartBuildkitd(t)}
	}, false},
	{"cache-from", func(_ *testing.T, p *proxy) []string {
		entry := "type=registry,ref=" + p.Host + "/one:cache-b-main"
		return []string{"--cache-from", entry, "--cache-to", entry + ",mode=max"}
	}, false},
}

// TestBlobLost: a blob exists when a source is read, and is gone when its layer is needed. The
// build continues without the source, and its export repairs the cache.
func TestBlobLost(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		for _, fault := range faults {
			t.Run(way.name+"/"+fault.name, func(t *testing.T) {
				t.Parallel()
				p, app := newProxy(t), testkit.App(t)
				run := func() testkit.Invocation { return build(app, slices.Concat(way.args(t, p), fixed)...) }
				run().Build(t)
				change(t, app)
				layer := base(manifest(t, p.cache("one"), "b-main"))
				p.misbehave(fault.answer(p.get(t, "/v2/one/blobs/"+layer.String())), method("GET"), blob(layer))
				broken := run()
				if fault.name == "hangs" {
					broken.Args = append(broken.Args, "--cache-timeout", "5s")
				}
				survives(t, broken.Start(t), true)
				p.behave()
				allCached(t, run().Build(t))
			})
		}
	}
}

// base is the layer that all steps depend on: the largest one.
func base(m backends.Manifest) digest.Digest {
	return slices.MaxFunc(m.Layers, func(a, b ocispecs.Descriptor) int { return cmp.Compare(a.Size, b.Size) }).Digest
}

// survives checks that a build of the changed app succeeds without its cache.
func survives(t *testing.T, out testkit.Output, retried bool) {
	t.Helper()
	if out.Code != 0 || out.Report.Digest != rightDigest(t) {
		t.Fatalf("exit code %d, image %s, want %s:\n%s", out.Code, out.Report.Digest, rightDigest(t), out.Text)
	}
	if (out.Report.Retried != "") != retried {
		t.Errorf("retried: %q", out.Report.Retried)
	}
	for _, s := range out.Report.Sources {
		if s.State != "failed" || s.Error == "" {
			t.Errorf("%s is %s: %q", s.Cache, s.State, s.Error)
		}
		if n := strings.Count(out.Text, s.Cache+"  "+short(s.Error)); n != 1 {
			t.Errorf("the report names %s and the reason %d times:\n%s", s.Cache, n, out.Text)
		}
	}
}

// short is the beginning of a reason, which the report may shorten.
func short(s string) string { return s[:min(len(s), 250)] }

// TestUnreadable: a source that cannot be read before the build is left out, and the build runs
// once.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	tag := path("/manifests/cache-b-main")
	tests := []struct {
		name   string
		answer http.HandlerFunc
		match  func(config, layer digest.Digest) func(*http.Request) bool // nil: the manifest
		reason string
	}{
		{"config gone", status(404, "BLOB_UNKNOWN"), func(config, _ digest.Digest) func(*http.Request) bool { return blob(config) }, "sha256:"},
		{"config damaged", sending("{}", 2), func(config, _ digest.Digest) func(*http.Request) bool {
			return func(r *http.Request) bool { return r.Method == http.MethodGet && blob(config)(r) }
		}, "is damaged"},
		{"manifest hangs", hang, nil, "no answer within 2s (probe-timeout)"},
		{"manifest 500", status(500, "UNKNOWN"), nil, ""},
		{"manifest 401", status(401, "UNAUTHORIZED"), nil, "UNAUTHORIZED"},
		{"manifest is not JSON", sending("<html>", 6), nil, "parse manifest"},
		{"manifest is a 404 of another kind", status(404, "WHAT"), nil, "WHAT"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, app := newProxy(t), testkit.App(t)
			cache := []string{"--cache", p.cache("one").Line, "--probe-timeout", "2s", "--cache-timeout", "5s"}
			build(app, cache...).Build(t)
			change(t, app)
			match := tag
			if m := manifest(t, p.cache("one"), "b-main"); test.match != nil {
				match = test.match(m.Config.Digest, m.Layers[0].Digest)
			}
			p.misbehave(test.answer, match, method("GET", "HEAD"))
			out := build(app, slices.Concat(cache, fixed)...).Start(t)
			survives(t, out, false)
			if reason := out.Report.Sources[0].Error; !strings.Contains(reason, test.reason) {
				t.Errorf("the reason is %q", reason)
			}
			if n := out.Report.Cached(); n != 0 {
				t.Errorf("%d steps were cached nevertheless:\n%s", n, out.Text)
			}
		})
	}
}

// TestImportHangs: BuildKit's own request hangs although that of warmlayer was answered. A managed
// builder is restarted. A remote builder stays blocked for all of its users, and the build fails
// with the reason.
func TestImportHangs(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		if way.name == "one registry" || way.name == "two through the gateway" {
			continue // BuildKit has the manifest from memory
		}
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			p, app := newProxy(t), testkit.App(t)
			args := slices.Concat(way.args(t, p), fixed)
			build(app, args...).Build(t)
			change(t, app)
			p.misbehave(hang, method("GET", "HEAD"), path("/manifests/cache-b-main"), byBuildKit)
			out := build(app, slices.Concat(way.args(t, p), fixed, []string{"--cache-timeout", "3s"})...).Start(t)
			if way.name != "remote builder" {
				survives(t, out, true)
				return
			}
			const reason = "the import hangs: "
			if out.Code != 1 || out.Report.Retried != "" || out.Report.Source("b-main") != "failed" || !strings.Contains(out.Report.Error, reason) {
				t.Errorf("exit code %d, error %q:\n%s", out.Code, out.Report.Error, out.Text)
			}
		})
	}
}

// TestLocalDamaged: a blob in a directory has the right size and wrong bytes.
func TestLocalDamaged(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		args    func(t *testing.T, dir string) []string
		repairs bool // BuildKit's own export skips blobs that exist
	}{
		{"through the gateway", func(_ *testing.T, dir string) []string {
			return []string{"--cache", "type=local,dest=" + dir}
		}, true},
		{"remote builder", func(t *testing.T, dir string) []string {
			return []string{"--cache", "type=local,dest=" + dir, "--builder", testkit.StartBuildkitd(t)}
		}, false},
		{"cache-from", func(_ *testing.T, dir string) []string {
			return []string{"--cache-from", "type=local,tag=b-main,src=" + dir, "--cache-to", "type=local,tag=b-main,mode=max,dest=" + dir}
		}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir, app := filepath.Join(testkit.Temp(t), "cache"), testkit.App(t)
			run := func() testkit.Invocation { return build(app, slices.Concat(test.args(t, dir), fixed)...) }
			run().Build(t)
			if r := run().Build(t); r.Sources[0].State != "loaded" {
				t.Errorf("sources %+v", r.Sources)
			}
			change(t, app)
			cache := testkit.Cache{Line: "type=local,dest=" + dir}
			damage(t, filepath.Join(dir, "blobs", "sha256", base(manifest(t, cache, "b-main")).Encoded()))
			survives(t, run().Start(t), true)
			if test.repairs {
				allCached(t, run().Build(t))
			}
		})
	}
}

// TestLostWhilePushing: no step needs the lost layer, but the push to a new registry does. The
// export of the cache runs at the same time.
func TestLostWhilePushing(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			p, image, app := newProxy(t), testkit.StartRegistry(t).Host, testkit.App(t)
			testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD --link rootfs.tar /\nCOPY --link site /site\n")
			run := func(args ...string) testkit.Invocation {
				return build(app, slices.Concat(way.args(t, p), []string{"--build-args", "SOURCE_DATE_EPOCH=1"}, args)...)
			}
			run().Build(t)
			change(t, app)
			layers := manifest(t, p.cache("one"), "b-main").Layers
			p.misbehave(status(404, "BLOB_UNKNOWN"), method("GET"), blob(layers[0].Digest, layers[1].Digest))
			out := run("--tags", image+"/app:v1", "--push").Start(t)
			if out.Code != 0 || !strings.Contains(out.Report.Retried, "failed to push") {
				t.Fatalf("exit code %d, retried %q:\n%s", out.Code, out.Report.Retried, out.Text)
			}
			for _, e := range out.Report.Exports {
				if e.Outcome != "written" {
					t.Errorf("%s is %s: %s", e.Cache, e.Outcome, e.Error)
				}
			}
			p.behave()
			allCached(t, run().Build(t))
		})
	}
}
