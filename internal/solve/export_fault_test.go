package solve_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// pushing builds and pushes an app, with a timeout for its export.
func pushing(p *proxy, app string, args ...string) testkit.Invocation {
	return build(app, slices.Concat([]string{"--tags", p.Host + "/image:v1", "--push", "--cache-timeout", "5s"}, args)...)
}

// TestExportFails: the image is pushed, and the step succeeds unless the cache is strict.
func TestExportFails(t *testing.T) {
	t.Parallel()
	repo := path("/v2/one/")
	faults := []struct {
		name   string
		answer http.HandlerFunc
		match  []func(*http.Request) bool
		reason string
	}{
		{"upload 500", status(500, "UNKNOWN"), []func(*http.Request) bool{repo, method("POST", "PUT")}, ""},
		{"upload denied", status(403, "DENIED"), []func(*http.Request) bool{repo, method("POST", "PUT")}, "the credentials do not permit it"},
		{"upload denied to BuildKit", status(403, "DENIED"), []func(*http.Request) bool{repo, method("POST", "PUT"), byBuildKit}, "denied"},
		{"manifest denied", status(403, "DENIED"), []func(*http.Request) bool{path("/v2/one/manifests/"), method("PUT")}, "denied"},
		{"manifest hangs", hang, []func(*http.Request) bool{path("/v2/one/manifests/"), method("PUT")}, "not done within 5s (cache-timeout)"},
		{"record denied", status(403, "DENIED"), []func(*http.Request) bool{path("/v2/one/manifests/"), method("PUT"), func(r *http.Request) bool { return !byBuildKit(r) }}, "write the scope's cache"},
	}
	consequences := []struct {
		line, flag string
		code       int
	}{
		{"", "--cache-strict=false", 0},
		{"", "--cache-strict", 3},
		{",ignore-error=false", "--cache-strict=false", 3},
	}
	for _, fault := range faults {
		for _, c := range consequences {
			t.Run(fault.name+" "+c.flag+c.line, func(t *testing.T) {
				t.Parallel()
				p := newProxy(t)
				p.misbehave(fault.answer, fault.match...)
				out := pushing(p, testkit.App(t), "--cache", p.cache("one").Line+c.line, c.flag).Start(t)
				if out.Code != c.code || !out.Report.OK {
					t.Errorf("exit code %d:\n%s", out.Code, out.Text)
				}
				if e := out.Report.Exports; len(e) != 1 || e[0].Outcome != "failed" || !strings.Contains(e[0].Error, fault.reason) {
					t.Errorf("exports %+v", e)
				}
				if pushed := p.get(t, "/v2/image/manifests/v1"); digest.FromString(pushed).String() != out.Report.Digest {
					t.Errorf("the image is %s, the report has %s", digest.FromString(pushed), out.Report.Digest)
				}
			})
		}
	}
}

// TestStoresFailAlone: one of several caches cannot be written, and the others are written.
func TestStoresFailAlone(t *testing.T) {
	t.Parallel()
	p, app := newProxy(t), testkit.App(t)
	dir := filepath.Join(testkit.Temp(t), "cache")
	lines := []string{"inline", "type=local,dest=" + dir, p.cache("one").Line, p.cache("two").Line}
	run := func() testkit.Invocation { return pushing(p, app, "--cache", strings.Join(lines, "\n")) }
	for _, e := range run().Build(t).Exports {
		if e.Outcome != "written" {
			t.Errorf("%s is %s: %s", e.Cache, e.Outcome, e.Error)
		}
	}
	if r := run().Build(t); len(r.Sources) != 4 {
		t.Errorf("sources %+v", r.Sources)
	} else {
		allCached(t, r)
	}
	change(t, app)
	p.misbehave(status(403, "DENIED"), path("/v2/one/"))
	r := run().Build(t)
	for _, s := range r.Sources {
		if broken := strings.HasSuffix(s.Cache, "/one"); broken != (s.State == "failed") {
			t.Errorf("source %s is %s: %s", s.Cache, s.State, s.Error)
		}
	}
	for _, e := range r.Exports {
		if broken := strings.HasSuffix(e.Cache, "/one"); broken != (e.Outcome == "failed") {
			t.Errorf("export to %s is %s: %s", e.Cache, e.Outcome, e.Error)
		}
	}
	for _, line := range []string{lines[1], lines[3]} {
		allCached(t, build(app, "--cache", line).Build(t))
	}
}

// TestPushFails: the registry refuses the image, but not the check before the build. No cache is left out, and the result is cached for
// the next run.
func TestPushFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		match []func(*http.Request) bool
	}{
		{"every request", nil},
		{"uploads", []func(*http.Request) bool{method("POST", "PUT")}},
		{"the manifest", []func(*http.Request) bool{path("/manifests/"), method("PUT")}},
		{"the check whether a layer of the cache exists", []func(*http.Request) bool{method("HEAD")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, app := newProxy(t), testkit.App(t)
			cache := []string{"--cache", p.cache("one").Line}
			pushing(p, app, cache...).Build(t)
			change(t, app)
			match := append(test.match, path("/v2/image/"), byBuildKit)
			if strings.Contains(test.name, "layer") {
				var layers []digest.Digest
				for _, l := range manifest(t, p.cache("one"), "b-main").Layers {
					layers = append(layers, l.Digest)
				}
				match = append(match, blob(layers...))
			}
			p.misbehave(status(403, "DENIED"), match...)
			out := pushing(p, app, cache...).Start(t)
			if out.Code != 1 || out.Report.Retried != "" || out.Report.Source("b-main") != "loaded" || out.Report.Outcome(t) != "written" {
				t.Errorf("exit code %d, retried %q, sources %v, exports %v:\n%s", out.Code, out.Report.Retried, out.Report.Sources, out.Report.Exports, out.Text)
			}
			p.behave()
			allCached(t, pushing(p, app, cache...).Build(t))
		})
	}
}

// TestEmptyCache: a build without layers keeps the cache of an earlier build.
func TestEmptyCache(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"registry", "local"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cache, app := newProxy(t).cache("one"), testkit.App(t)
			if kind == "local" {
				cache.Line = "type=local,dest=" + filepath.Join(testkit.Temp(t), "cache")
			}
			build(app, "--cache", cache.Line).Build(t)
			before := manifest(t, cache, "b-main")
			testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nCMD [\"/nothing\"]\n")
			if r := build(app, "--cache", cache.Line).Build(t); r.Outcome(t) != "skipped" || r.Exports[0].Error != "there is no layer to cache" {
				t.Errorf("exports %+v", r.Exports)
			}
			if after := manifest(t, cache, "b-main"); string(after.Raw) != string(before.Raw) {
				t.Errorf("the cache is now %s", after.Raw)
			}
		})
	}
}

// TestTwoWriters: two builds export one scope at the same time. Afterwards the scope is the
// complete cache of one of them.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"registry", "local"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cache := newProxy(t).cache("one")
			if kind == "local" {
				cache.Line = "type=local,dest=" + filepath.Join(testkit.Temp(t), "cache")
			}
			apps := []string{testkit.App(t), testkit.App(t)}
			change(t, apps[1])
			done := make(chan testkit.Output)
			for _, app := range apps {
				go func() { done <- build(app, "--cache", cache.Line).Start(t) }()
			}
			for range apps {
				if out := <-done; out.Code != 0 || out.Report.Exports[0].Outcome != "written" {
					t.Errorf("exit code %d:\n%s", out.Code, out.Text)
				}
			}
			m := manifest(t, cache, "b-main")
			missing, err := storage.Missing(t.Context(), cache.Scopes(t), m.Blobs())
			if err != nil || len(missing) > 0 {
				t.Errorf("%d blobs are missing: %v", len(missing), err)
			}
			warm := 0
			for _, app := range apps {
				if r := build(app, "--cache", cache.Line, "--cache-write", "never").Build(t); r.Cached() == len(r.Steps) {
					warm++
				}
			}
			if warm == 0 {
				t.Error("the cache is that of neither build")
			}
		})
	}
}

// TestInputsChange: the build writes an output into its own context. The next build uses only
// cached results of its own inputs.
func TestInputsChange(t *testing.T) {
	t.Parallel()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), `FROM scratch AS all
ADD rootfs.tar /
COPY . /all
RUN find /all -type f | sort > /list
FROM scratch
COPY --from=all /list /list
`)
	cache := "type=local,dest=" + filepath.Join(testkit.Temp(t), "cache")
	// The first build writes the list, the second adds the list to itself, and the third changes
	// nothing.
	for i, outcome := range []string{"skipped", "skipped", "written", "unchanged"} {
		r := build(app, "--cache", cache, "--outputs", "type=local,dest=out").Build(t)
		list, err := os.ReadFile(filepath.Join(app, "out", "list"))
		if err != nil {
			t.Fatal(err)
		}
		if listed := strings.Contains(string(list), "/all/out/list"); listed != (i > 0) {
			t.Errorf("build %d: the result does not match its context:\n%s", i, list)
		}
		if r.Outcome(t) != outcome {
			t.Errorf("build %d: exports %+v", i, r.Exports)
		}
	}
}
