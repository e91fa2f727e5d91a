package solve_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// threeStages is an app with three stages that do not need each other, and a last one that
// needs all. The layer of the stage two is the largest of the three.
func threeStages(t *testing.T) string {
	t.Helper()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), `FROM scratch AS base
ADD rootfs.tar /
FROM base AS one
RUN echo one > /one
FROM base AS two
RUN seq 1 60000 > /two
FROM base AS three
RUN echo three > /three
FROM base
COPY site /site
COPY --from=one /one /
COPY --from=two /two /
COPY --from=three /three /
`)
	return app
}

// damaged is a store of caches whose blobs a test can damage.
type damaged struct {
	cache testkit.Cache
	args  []string // in place of those for the cache's line; nil: that
	// set gives a blob another content; "" removes it.
	set func(t *testing.T, d digest.Digest, content string)
}

// damagedStores start one store of each kind.
var damagedStores = map[string]func(*testing.T) damaged{
	"local": func(t *testing.T) damaged {
		dir := filepath.Join(testkit.Temp(t), "cache")
		return damaged{cache: testkit.Cache{Line: "type=local,dest=" + dir}, set: func(t *testing.T, d digest.Digest, content string) {
			path := filepath.Join(dir, "blobs", "sha256", d.Encoded())
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if content != "" {
				testkit.Write(t, path, content)
			}
		}}
	},
	"s3":     func(t *testing.T) damaged { return damagedObjects(testkit.StartS3(t)) },
	"azblob": func(t *testing.T) damaged { return damagedObjects(testkit.StartAzblob(t)) },
	"one registry": func(t *testing.T) damaged {
		p := newProxy(t)
		return damaged{cache: p.cache("one"), set: p.set}
	},
	"two registries": func(t *testing.T) damaged {
		p := newProxy(t)
		return damaged{cache: p.cache("one"), args: []string{"--cache", p.cache("one").Line + "\n" + p.cache("two").Line}, set: p.set}
	},
}

func damagedObjects(server testkit.ObjectServer) damaged {
	return damaged{cache: testkit.Cache{Line: server.Line("")}, set: func(t *testing.T, d digest.Digest, content string) {
		if key := "blobs/" + d.String(); content == "" {
			server.Remove(t, key)
		} else {
			server.Write(t, key, content)
		}
	}}
}

// set makes the proxy answer with another content for a blob of all repositories.
func (p *proxy) set(_ *testing.T, d digest.Digest, content string) {
	if content == "" {
		p.misbehave(status(404, "BLOB_UNKNOWN"), method("GET", "HEAD"), blob(d))
	} else {
		p.misbehave(sending(content, int64(len(content))), method("GET", "HEAD"), blob(d))
	}
}

// TestOneLostBlob: one blob of many is lost. The build repeats the step that needs it, and no
// other, with one warning, and its export repairs the cache.
func TestOneLostBlob(t *testing.T) {
	t.Parallel()
	harms := []struct {
		name    string
		content func(string) string
		retried bool // it is found only when the layer is extracted
	}{
		{"gone", func(string) string { return "" }, false},
		{"cut short", func(s string) string { return s[:100] }, false},
		{"another content", func(s string) string { return strings.Repeat("x", len(s)) }, true},
	}
	fresh := threeStages(t)
	change(t, fresh)
	right := build(fresh, append(fixed, "--cache", "none")...).Build(t).Digest
	for kind, start := range damagedStores {
		for _, harm := range harms {
			t.Run(kind+"/"+harm.name, func(t *testing.T) {
				t.Parallel()
				app, store := threeStages(t), start(t)
				args := store.args
				if args == nil {
					args = []string{"--cache", store.cache.Line}
				}
				run := func(more ...string) testkit.Invocation { return build(app, slices.Concat(args, fixed, more)...) }
				run().Build(t)
				change(t, app)
				layer := stageTwo(t, store.cache)
				store.set(t, layer, harm.content(content(t, store.cache, layer)))

				out := run("--cache-strict").Start(t)
				retried := harm.retried || strings.Contains(kind, "regist") // whose blobs are not asked for
				if r := out.Report; out.Code != 3 || r.Digest != right || (r.Retried != "") != retried {
					t.Fatalf("exit code %d, image %s instead of %s, retried %q:\n%s", out.Code, r.Digest, right, r.Retried, out.Text)
				}
				for _, s := range out.Report.Sources {
					if s.State != "loaded" || !strings.Contains(s.Error, "results are not used: ") || !strings.Contains(s.Error, layer.String()) {
						t.Errorf("%s is %s: %q", s.Cache, s.State, s.Error)
					}
				}
				for _, e := range out.Report.Exports {
					if e.Outcome != "written" {
						t.Errorf("export to %s: %s %s", e.Cache, e.Outcome, e.Error)
					}
				}
				for _, step := range out.Report.Steps {
					if needed := strings.Contains(step.Name, "seq 1") || strings.Contains(step.Name, "COPY"); !step.Cached && !needed {
						t.Errorf("ran again: %s\n%s", step.Name, out.Text)
					}
				}
				next := run("--cache-strict").Build(t)
				allCached(t, next)
				if next.Retried != "" {
					t.Errorf("not repaired: %s", next.Retried)
				}
			})
		}
	}
}

// read is the scope b-main of a cache.
func read(t *testing.T, c testkit.Cache) backends.Reading {
	t.Helper()
	plan := scope.Plan{Read: []scope.Source{{Name: "b-main"}}}
	r := backends.Read(t.Context(), []backends.Backend{c.Backend(t)}, plan, time.Minute)[0]
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	return r
}

// stageTwo is the largest layer directly on the base.
func stageTwo(t *testing.T, c testkit.Cache) digest.Digest {
	t.Helper()
	r := read(t, c)
	var config cacheconfig.CacheConfig
	if err := json.Unmarshal(r.Config, &config); err != nil {
		t.Fatal(err)
	}
	sizes := map[digest.Digest]int64{}
	for _, l := range r.Manifest.Layers {
		sizes[l.Digest] = l.Size
	}
	var found digest.Digest
	for _, l := range config.Layers {
		if l.ParentIndex != -1 && config.Layers[l.ParentIndex].ParentIndex == -1 && sizes[l.Blob] > sizes[found] {
			found = l.Blob
		}
	}
	return found
}

// content is a blob's.
func content(t *testing.T, c testkit.Cache, d digest.Digest) string {
	t.Helper()
	blob, err := c.Scopes(t).Open(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	raw, err := io.ReadAll(blob)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
