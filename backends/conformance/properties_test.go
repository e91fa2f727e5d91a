package conformance

import (
	"bytes"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

func (s suite) warmRebuild(t *testing.T) {
	c, app, cold := s.warm(t)
	warm := s.run(t, c, app, "main").Build(t)
	allCached(t, warm)
	if warm.Digest != cold.Digest {
		t.Errorf("image %s, was %s", warm.Digest, cold.Digest)
	}
}

// A transfer of a layer, in BuildKit's plain progress.
var transfer = regexp.MustCompile(`(?m)^#\d+ (extracting )?sha256:[0-9a-f]{64}`)

func (s suite) fetchesNothing(t *testing.T) {
	c, app, _ := s.warm(t)
	if out := s.run(t, c, app, "main").Start(t); transfer.MatchString(out.Text) {
		t.Errorf("an unchanged build fetched a layer:\n%s", out.Text)
	}
	change(t, app)
	if out := s.run(t, c, app, "main").Start(t); !transfer.MatchString(out.Text) {
		t.Errorf("a changed build fetched none, so this test sees nothing:\n%s", out.Text)
	}
}

func change(t *testing.T, app string) {
	t.Helper()
	testkit.Write(t, filepath.Join(app, "site", "index.txt"), "Changed\n\nThis page is another one.\n")
}

func (s suite) exportsChanges(t *testing.T) {
	c, app, _ := s.warm(t)
	before := c.manifest(t, "b-main")
	if r := s.run(t, c, app, "main").Build(t); r.Outcome(t) != "unchanged" {
		t.Errorf("export of an unchanged build: %s", r.Outcome(t))
	}
	if after := c.manifest(t, "b-main"); !bytes.Equal(before.Raw, after.Raw) {
		t.Error("an unchanged build wrote the scope")
	}
	change(t, app)
	if r := s.run(t, c, app, "main").Build(t); r.Outcome(t) != "written" {
		t.Errorf("export of a changed build: %s", r.Outcome(t))
	}
	if after := c.manifest(t, "b-main"); bytes.Equal(before.Raw, after.Raw) {
		t.Error("a changed build did not write the scope")
	}
}

// Own scope and main both hold some of the steps here: what BuildKit by itself
// matches by chance.
func (s suite) warmAfterChange(t *testing.T) {
	c, app, _ := s.warm(t)
	s.run(t, c, app, "feature").Build(t)
	change(t, app)
	if r := s.run(t, c, app, "feature").Build(t); r.Cached() == 0 || r.Cached() == len(r.Steps) {
		t.Fatalf("a changed build: %d of %d steps cached", r.Cached(), len(r.Steps))
	}
	for range 5 {
		allCached(t, s.run(t, c, app, "feature").Build(t))
	}
}

func (s suite) branchReadsMain(t *testing.T) {
	c, app, _ := s.warm(t)
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

func (s suite) missingSource(t *testing.T) {
	r := s.run(t, s.h.open(t), testkit.App(t), "feature", "--cache-fallbacks", "gone").Build(t)
	for _, name := range []string{"b-feature", "b-gone", "b-main"} {
		if r.Source(name) != "absent" {
			t.Errorf("%s is %q", name, r.Source(name))
		}
	}
}

func (s suite) untrusted(t *testing.T) {
	c, app, _ := s.warm(t)
	before := c.names(t)
	r := s.run(t, c, app, "main", "--pull-request", "7", "--trusted=false").Build(t)
	allCached(t, r)
	if len(r.Exports) != 0 {
		t.Errorf("exports %v", r.Exports)
	}
	if after := c.names(t); !slices.Equal(before, after) {
		t.Errorf("the store holds %v, held %v", after, before)
	}
}

func (s suite) oddBranches(t *testing.T) {
	c, app := s.h.open(t), testkit.App(t)
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
	c, app, _ := s.warm(t, "--cache-key", "one")
	r := s.run(t, c, app, "main", "--cache-key", "two").Build(t)
	if r.Cached() != 0 || r.Source("b-main.two") != "absent" {
		t.Errorf("%d steps cached, sources %v", r.Cached(), r.Sources)
	}
	allCached(t, s.run(t, c, app, "main", "--cache-key", "one").Build(t))
}

func (s suite) modes(t *testing.T) {
	count := map[string]int{}
	for _, mode := range []string{"min", "max"} {
		c, _, _ := s.warm(t, "--cache-mode", mode)
		count[mode] = len(c.manifest(t, "b-main").Layers)
	}
	if count["min"] == 0 || count["min"] >= count["max"] {
		t.Errorf("layers by mode: %v", count)
	}
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
