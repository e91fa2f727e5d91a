package solve_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gofrs/flock"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestMendedForBuildKit: a remote builder's own exporters keep what they find in a store. What is
// damaged there, and would be kept, is written again by the next good build.
func TestMendedForBuildKit(t *testing.T) {
	t.Parallel()
	cutTo := func(n int) func(*testing.T, damaged, string, digest.Digest) {
		return func(t *testing.T, store damaged, _ string, blob digest.Digest) {
			store.set(t, blob, content(t, store.cache, blob)[:n])
		}
	}
	layer := func(t *testing.T, c testkit.Cache) digest.Digest { return base(manifest(t, c, "b-main")) }
	config := func(t *testing.T, c testkit.Cache) digest.Digest { return manifest(t, c, "b-main").Config.Digest }
	cutIndex := func(t *testing.T, _ damaged, dir string, _ digest.Digest) {
		if err := os.Truncate(filepath.Join(dir, "index.json"), 40); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		kind   string
		blob   func(*testing.T, testkit.Cache) digest.Digest
		harm   func(t *testing.T, store damaged, dir string, blob digest.Digest)
		reason string
		same   bool // the next build exports the same cache
	}{
		"s3, a layer":       {"s3", layer, cutTo(100), "blobs are gone", false},
		"azblob, a layer":   {"azblob", layer, cutTo(100), "blobs are gone", false},
		"local, a layer":    {"local", layer, cutTo(100), "blobs are gone", false},
		"local, the config": {"local", config, cutTo(100), "is damaged", true},
		"local, the index":  {"local", layer, cutIndex, "index.json: it is damaged", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app, store := testkit.App(t), damagedStores[test.kind](t)
			dir := strings.TrimPrefix(store.cache.Line, "type=local,dest=")
			builder := testkit.StartBuildkitd(t)
			run := func(more ...string) testkit.Invocation {
				return build(app, slices.Concat([]string{"--cache", store.cache.Line, "--builder", builder}, fixed, more)...)
			}
			run().Build(t)
			blob := test.blob(t, store.cache)
			test.harm(t, store, dir, blob)
			if !test.same {
				change(t, app)
			}
			out := run().Start(t)
			if !test.same {
				survives(t, out, false)
			}
			if s := out.Report.Sources[0]; !strings.Contains(s.Error, test.reason) {
				t.Errorf("the reason is %q", s.Error)
			}
			if e := out.Report.Exports[0]; e.Outcome != "written" || e.Error != "" {
				t.Errorf("%s is %s: %s", e.Cache, e.Outcome, e.Error)
			}
			read(t, store.cache)
			builder = testkit.StartBuildkitd(t)
			next := run("--cache-strict").Build(t)
			if allCached(t, next); next.Retried != "" {
				t.Errorf("not mended: %s", next.Retried)
			}
		})
	}
}

// TestCutInARegistry: a registry answers a blob that is cut short in its storage with the wrong
// size, and keeps it. The build goes without what needs it, and the warning says what helps.
func TestCutInARegistry(t *testing.T) {
	t.Parallel()
	for _, remote := range []bool{false, true} {
		t.Run(map[bool]string{false: "managed", true: "remote"}[remote], func(t *testing.T) {
			t.Parallel()
			app, registry := testkit.App(t), testkit.StartRegistry(t)
			cache := testkit.Cache{Line: "type=registry,ref=" + registry.Host + "/cache"}
			run := func() testkit.Invocation {
				args := slices.Concat([]string{"--cache", cache.Line}, fixed)
				if remote {
					args = append(args, "--builder", testkit.StartBuildkitd(t))
				}
				return build(app, args...)
			}
			run().Build(t)
			change(t, app)
			layer := base(manifest(t, cache, "b-main"))
			hex := layer.Encoded()
			if err := os.Truncate(filepath.Join(registry.Root, "docker/registry/v2/blobs/sha256", hex[:2], hex, "data"), 100); err != nil {
				t.Fatal(err)
			}
			out := run().Start(t)
			if out.Code != 0 || out.Report.Digest != rightDigest(t) || (out.Report.Retried == "") != remote {
				t.Fatalf("exit code %d, image %s, retried %q:\n%s", out.Code, out.Report.Digest, out.Report.Retried, out.Text)
			}
			s := out.Report.Sources[0]
			for _, want := range []string{"delete " + registry.Host + "/cache", "set ref to another repository", layer.String()} {
				if !strings.Contains(s.Error, want) {
					t.Errorf("%s is %s: %q does not say %q", s.Cache, s.State, s.Error, want)
				}
			}
		})
	}
}

// TestMayNotMend: a damaged blob that the credentials may not remove would stay, so its cache is not
// reported as written.
func TestMayNotMend(t *testing.T) {
	t.Parallel()
	server := testkit.StartS3(t)
	store, p, app := damagedObjects(server), newProxyBefore(t, server.Address()), testkit.App(t)
	p.misbehave(status(403, "AccessDenied"), method("DELETE"))
	builder := testkit.StartBuildkitd(t)
	run := func() testkit.Invocation {
		return build(app, slices.Concat([]string{"--cache", server.At(p.Host), "--builder", builder}, fixed)...)
	}
	run().Build(t)
	change(t, app)
	layer := base(manifest(t, store.cache, "b-main"))
	store.set(t, layer, content(t, store.cache, layer)[:100])
	out := run().Start(t)
	survives(t, out, false)
	e := out.Report.Exports[0]
	if e.Outcome != "failed" || !strings.Contains(e.Error, "s3:DeleteObject") || !strings.Contains(e.Error, layer.String()) {
		t.Errorf("%s is %s: %s", e.Cache, e.Outcome, e.Error)
	}
}

// TestWaitsForTheIndex: BuildKit's client, which writes the cache of a remote builder into a directory,
// gives up where another process holds the index's lock. The export is tried again when it is free.
func TestWaitsForTheIndex(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--cache", "--cache-to"} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			dir := testkit.Temp(t)
			lock := flock.New(filepath.Join(dir, "index.json.lock"))
			if ok, err := lock.TryLock(); !ok || err != nil {
				t.Fatal(ok, err)
			}
			opened := testkit.Opened(t, dir, "index.json.lock")
			go func() {
				<-opened      // by BuildKit's client, which gives up
				<-opened      // to wait for it
				lock.Unlock() //nolint:errcheck // the build would fail
			}()
			args := []string{"--builder", testkit.StartBuildkitd(t), flag, "type=local,dest=" + dir}
			if flag == "--cache-to" {
				args = append(args, "--cache", "none")
			}
			app := testkit.App(t)
			if r := build(app, args...).Build(t); r.Outcome(t) != "written" {
				t.Errorf("exports %+v", r.Exports)
			}
			from := "type=local,src=" + dir
			if flag == "--cache" {
				allCached(t, build(app, "--cache", "type=local,dest="+dir).Build(t))
			} else {
				allCached(t, build(app, "--cache", "none", "--cache-from", from).Build(t))
			}
		})
	}
}
