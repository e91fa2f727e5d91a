package conformance

import (
	"bytes"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// successive builds share one store. Each has an empty builder.
func (s suite) successive(t *testing.T) {
	app := testkit.App(t)
	c, cold := s.warm(t, app)
	t.Run("unchanged", func(t *testing.T) { s.unchanged(t, c, app, cold) })
	t.Run("untrusted writes nothing", func(t *testing.T) { s.untrusted(t, c, app) })
	t.Run("first build of a branch reads main and does not change it", func(t *testing.T) { s.branchReadsMain(t, c, app) })
	t.Run("changed", func(t *testing.T) { s.changed(t, c, app) })
	// With several native imports, BuildKit's matches depend on chance: moby/buildkit#6418.
	if !s.h.remote {
		t.Run("warm in the next build", func(t *testing.T) { s.warmAfterChange(t, c, app) })
	}
}

// A transfer of a layer, in BuildKit's plain progress.
var transfer = regexp.MustCompile(`(?m)^#\d+ (extracting )?sha256:[0-9a-f]{64}`)

// unchanged is a warm rebuild: it makes the same image, fetches no layer and exports no cache.
func (s suite) unchanged(t *testing.T, c store, app string, cold testkit.Report) {
	before, layers := c.manifest(t, "b-main"), gzipped(t, c.image)
	out := s.run(t, c, app, "main").Start(t)
	if out.Code != 0 {
		t.Fatalf("exit code %d:\n%s", out.Code, out.Text)
	}
	warm := out.Report
	allCached(t, warm)
	if warm.Digest != cold.Digest {
		t.Errorf("image %s, want %s", warm.Digest, cold.Digest)
	}
	if after := gzipped(t, c.image); !slices.EqualFunc(layers, after, func(a, b v1.Descriptor) bool { return a.Digest == b.Digest }) {
		t.Errorf("warm layers %v, cold ones %v", after, layers)
	}
	if !s.h.eager && transfer.MatchString(out.Text) {
		t.Errorf("an unchanged build fetched a layer:\n%s", out.Text)
	}
	if warm.Outcome(t) != "unchanged" {
		t.Errorf("export of an unchanged build: %s", warm.Outcome(t))
	}
	if after := c.manifest(t, "b-main"); !bytes.Equal(before.Raw, after.Raw) {
		t.Error("an unchanged build wrote the scope")
	}
}

// changed is a build of other files: it fetches layers, and is exported.
func (s suite) changed(t *testing.T, c store, app string) {
	before := c.manifest(t, "b-main")
	change(t, app, "This page is another one.")
	out := s.run(t, c, app, "main").Start(t)
	if !s.h.eager && !transfer.MatchString(out.Text) {
		t.Errorf("a changed build fetched no layer, so the test of the unchanged build has no effect:\n%s", out.Text)
	}
	if out.Code != 0 || out.Report.Outcome(t) != "written" {
		t.Errorf("exit code %d, export of a changed build: %s", out.Code, out.Report.Outcome(t))
	}
	if after := c.manifest(t, "b-main"); bytes.Equal(before.Raw, after.Raw) {
		t.Error("a changed build did not write the scope")
	}
}

func change(t *testing.T, app, text string) {
	t.Helper()
	testkit.Write(t, filepath.Join(app, "site", "index.txt"), "Changed\n\n"+text+"\n")
}

// The branch's own scope and main's both have some of these steps. With native imports BuildKit's
// matches depend on chance.
func (s suite) warmAfterChange(t *testing.T, c store, app string) {
	change(t, app, "This page is a third one.")
	if r := s.run(t, c, app, "feature").Build(t); r.Cached() == 0 || r.Cached() == len(r.Steps) {
		t.Fatalf("a changed build: %d of %d steps cached", r.Cached(), len(r.Steps))
	}
	for range 5 {
		allCached(t, s.run(t, c, app, "feature").Build(t))
	}
}

func (s suite) branchReadsMain(t *testing.T, c store, app string) {
	before := c.manifest(t, "b-main")
	r := s.run(t, c, app, "feature").Build(t)
	allCached(t, r)
	if r.Source("b-feature") != "absent" || r.Source("b-main") != "loaded" || r.Outcome(t) != "written" {
		t.Errorf("sources %v, exports %v", r.Sources, r.Exports)
	}
	if after := c.manifest(t, "b-main"); !bytes.Equal(before.Raw, after.Raw) {
		t.Error("the branch's build changed main's cache")
	}
	if m := c.manifest(t, "b-feature"); !s.h.inline && m.Record.Branch != "feature" {
		t.Errorf("record %+v", m.Record)
	}
}

// mergedScopes: a branch that has builds of its own gets the files of main's last build, all of whose steps main's
// scope has. The branch's scope takes them without an export; alone it then has every step of both of its
// builds, for empty builders. Another label is no other build.
func (s suite) mergedScopes(t *testing.T) {
	c, app := s.h.open(t), twoStages(t)
	for _, b := range []struct{ branch, text string }{{"main", "one"}, {"feature", "two"}, {"main", "three"}} {
		change(t, app, b.text)
		s.run(t, c, app, b.branch).Build(t)
	}
	r := s.run(t, c, app, "feature").Build(t)
	if allCached(t, r); r.Outcome(t) != "written" {
		t.Errorf("main's files on the branch: exports %+v", r.Exports)
	}
	for _, p := range r.Timings {
		if strings.HasPrefix(p.Name, "export cache") {
			t.Errorf("main's files on the branch were exported: %v", r.Timings)
		}
	}
	for _, text := range []string{"three", "two"} {
		change(t, app, text)
		r := s.run(t, c, app, "feature", "--default-branch", "feature").Build(t)
		if allCached(t, r); len(r.Sources) != 1 || r.Outcome(t) != "unchanged" {
			t.Errorf("%s, with the branch's scope alone: sources %+v, exports %+v", text, r.Sources, r.Exports)
		}
	}
	r = s.run(t, c, app, "feature", "--labels", "commit=2").Build(t)
	if allCached(t, r); r.Outcome(t) != "unchanged" {
		t.Errorf("another label: exports %+v", r.Exports)
	}
}

func (s suite) untrusted(t *testing.T, c store, app string) {
	before := c.names(t)
	r := s.run(t, c, app, "main", "--pull-request", "7", "--trusted=false").Build(t)
	allCached(t, r)
	if len(r.Exports) != 0 {
		t.Errorf("exports %v", r.Exports)
	}
	if after := c.names(t); !slices.Equal(before, after) {
		t.Errorf("the store has %v, want %v", after, before)
	}
}

func (s suite) missingSource(t *testing.T) {
	r := s.run(t, s.h.open(t), oneStep(t), "feature", "--cache-fallbacks", "gone").Build(t)
	for _, name := range []string{"b-feature", "b-gone", "b-main"} {
		if r.Source(name) != "absent" {
			t.Errorf("%s is %q", name, r.Source(name))
		}
	}
}

func (s suite) oddBranches(t *testing.T) {
	c, app := s.h.open(t), oneStep(t)
	odd := []string{"feature/ä", "x,ref=evil.example/o/r", "x;main", "..", `a"b$(id)`, strings.Repeat("long/", 60), "🚀"}
	names := map[string]bool{}
	for _, branch := range odd {
		r := s.run(t, c, app, branch).Build(t)
		if r.Outcome(t) != "written" && r.Outcome(t) != "unchanged" {
			t.Errorf("branch %q: export %v", branch, r.Exports)
		}
		names[r.Exports[0].Name] = true
		c.manifest(t, scope.Name(r.Exports[0].Name))
	}
	if len(names) != len(odd) {
		t.Errorf("%d branches have %d names", len(odd), len(names))
	}
}

func (s suite) twoKeys(t *testing.T) {
	app := oneStep(t)
	c, _ := s.warm(t, app, "--cache-key", "one")
	r := s.run(t, c, app, "main", "--cache-key", "two").Build(t)
	if r.Cached() != 0 || r.Source("b-main.two") != "absent" {
		t.Errorf("%d steps cached, sources %v", r.Cached(), r.Sources)
	}
	allCached(t, s.run(t, c, app, "main", "--cache-key", "one").Build(t))
}

func (s suite) secrets(t *testing.T) {
	const canary = "canary-0b5e9d"
	c, app := s.h.open(t), testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch AS base\nADD rootfs.tar /\nRUN --mount=type=secret,id=token echo token is $(cat /run/secrets/token)\n")
	out := s.run(t, c, app, "main", "--secrets", "token="+canary).Start(t)
	if out.Code != 0 || !strings.Contains(out.Text, "token is ***") {
		t.Fatalf("exit code %d:\n%s", out.Code, out.Text)
	}
	for _, secret := range []string{canary, c.key} {
		if secret != "" && strings.Contains(out.Text+out.Files, secret) {
			t.Errorf("%s is in the output", secret)
		}
	}
}

// empty: a build without a layer leaves the cache of the one before, with its record.
func (s suite) empty(t *testing.T) {
	app := oneStep(t)
	c, _ := s.warm(t, app)
	before := c.manifest(t, "b-main")
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nCMD [\"/nothing\"]\n")
	r := s.run(t, c, app, "main").Build(t)
	if r.Outcome(t) != "skipped" || r.Exports[0].Error != "there is no layer to cache" {
		t.Errorf("exports %+v", r.Exports)
	}
	after := c.manifest(t, "b-main")
	if string(after.Raw) != string(before.Raw) || len(after.Layers) == 0 || after.Record != before.Record {
		t.Errorf("the cache was %+v with %d layers, and is %+v with %d", before.Record, len(before.Layers), after.Record, len(after.Layers))
	}
}
