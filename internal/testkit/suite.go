// Package testkit is the conformance suite of the backends, on real servers.
//
// A backend passes when one harness does:
//
//	func TestRegistry(t *testing.T) {
//		testkit.Run(t, testkit.Harness{New: func(t *testing.T) testkit.Place { … }})
//	}
//
// The suite runs the program as its users do, each time with a builder that knows
// nothing yet, and looks into the stores themselves. In CI a part that is missing
// from the machine is a failure: see [Need].
package testkit

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

// Harness is one backend, reached in one way.
type Harness struct {
	New func(t *testing.T) Place

	Remote bool // through a daemon that runs already: native entries, no gateway
	Inline bool // the cache is in the image: no modes, compressions or media types
	Eager  bool // BuildKit fetches layers before it needs them: its own local cache does
	Object bool // the store has objects and no manifests: nothing to choose of their form
	Gzip   bool // BuildKit writes every layer with gzip: no compressions
}

// Place is an empty place to keep a cache in.
type Place struct {
	Line  string   // the cache line: "type=local,dest=/tmp/x"
	Image string   // where images may be pushed: "127.0.0.1:5001/app"
	Args  []string // further flags that the place needs
	Key   string   // the credential that stands in Line or Env, "" for none
	Names func(t testing.TB) []string
	// Env is what a job for a branch finds in its environment; for the branch "", a job of
	// main's that may look at everything. A nil Env is an empty one.
	Env func(branch string) map[string]string
}

func (p Place) env(branch string) map[string]string {
	if p.Env == nil {
		return nil
	}
	return p.Env(branch)
}

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	s := suite{h}
	tests := []struct {
		name string
		run  func(*testing.T)
		not  bool // does not apply
	}{
		{"warm rebuild on an empty builder", s.warmRebuild, false},
		{"unchanged build fetches no layer", s.fetchesNothing, h.Eager},
		{"unchanged build exports nothing, a changed one does", s.exportsChanges, false},
		// Several native imports match by chance: moby/buildkit#6418.
		{"a changed build is warm the next time", s.warmAfterChange, h.Remote},
		{"first build of a branch reads main and leaves it alone", s.branchReadsMain, false},
		{"missing source is harmless", s.missingSource, false},
		{"untrusted writes nothing", s.untrusted, false},
		{"odd branch names", s.oddBranches, false},
		{"two keys in one store", s.twoKeys, false},
		{"mode min and max", s.modes, h.Inline},
		{"compressions", s.compressions, h.Inline || h.Gzip},
		{"media types", s.mediaTypes, h.Inline || h.Gzip},
		{"image is the same whatever the cache", s.sameImage, false},
		{"buildctl reads ours and we read buildctl's", s.interoperates, false},
		{"no secret in any output", s.secrets, false},
	}
	for _, test := range tests {
		if !test.not {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t)
			})
		}
	}
}

type suite struct{ h Harness }

// run builds an app into a place, on a builder that knows nothing.
func (s suite) run(t *testing.T, p Place, app, branch string, args ...string) Invocation {
	t.Helper()
	r := Invocation{Dir: app, Branch: branch, Args: slices.Concat(p.Args, args), Env: p.env(branch)}
	if !slices.Contains(args, "--cache") {
		r.Args = append(r.Args, "--cache", p.Line)
	}
	if s.h.Remote {
		r.Args = append(r.Args, "--builder", StartBuildkitd(t))
	}
	if p.Image != "" {
		r.Args = append(r.Args, "--tags", p.Image+":v1", "--push")
	}
	return r
}

// place is a new place that main has been built into.
func (s suite) warmPlace(t *testing.T, args ...string) (Place, string, Report) {
	t.Helper()
	p, app := s.h.New(t), App(t)
	cold := s.run(t, p, app, "main", args...).Build(t)
	if cold.Cached() != 0 || cold.Outcome(t) != "written" {
		t.Fatalf("a first build: %d steps cached, export %s", cold.Cached(), cold.Outcome(t))
	}
	return p, app, cold
}

func allCached(t *testing.T, r Report) {
	t.Helper()
	for _, step := range r.Steps {
		if !step.Cached {
			t.Errorf("not cached: %s", step.Name)
		}
	}
	if len(r.Steps) == 0 {
		t.Error("no steps")
	}
}

func (s suite) warmRebuild(t *testing.T) {
	p, app, cold := s.warmPlace(t)
	warm := s.run(t, p, app, "main").Build(t)
	allCached(t, warm)
	if warm.Digest != cold.Digest {
		t.Errorf("image %s, was %s", warm.Digest, cold.Digest)
	}
}

// A transfer of a layer, in BuildKit's plain progress.
var transfer = regexp.MustCompile(`(?m)^#\d+ (extracting )?sha256:[0-9a-f]{64}`)

func (s suite) fetchesNothing(t *testing.T) {
	p, app, _ := s.warmPlace(t)
	if out := s.run(t, p, app, "main").Start(t); transfer.MatchString(out.Text) {
		t.Errorf("an unchanged build fetched a layer:\n%s", out.Text)
	}
	change(t, app)
	if out := s.run(t, p, app, "main").Start(t); !transfer.MatchString(out.Text) {
		t.Errorf("a changed build fetched none, so this test sees nothing:\n%s", out.Text)
	}
}

func change(t *testing.T, app string) {
	t.Helper()
	Write(t, filepath.Join(app, "site", "index.txt"), "Changed\n\nThis page is another one.\n")
}

func (s suite) exportsChanges(t *testing.T) {
	p, app, _ := s.warmPlace(t)
	before := s.manifest(t, p, "b-main")
	if r := s.run(t, p, app, "main").Build(t); r.Outcome(t) != "unchanged" {
		t.Errorf("export of an unchanged build: %s", r.Outcome(t))
	}
	if after := s.manifest(t, p, "b-main"); !bytes.Equal(before.Raw, after.Raw) {
		t.Error("an unchanged build wrote the scope")
	}
	change(t, app)
	if r := s.run(t, p, app, "main").Build(t); r.Outcome(t) != "written" {
		t.Errorf("export of a changed build: %s", r.Outcome(t))
	}
	if after := s.manifest(t, p, "b-main"); bytes.Equal(before.Raw, after.Raw) {
		t.Error("a changed build did not write the scope")
	}
}

// Own scope and main both hold some of the steps here: what BuildKit by itself
// matches by chance.
func (s suite) warmAfterChange(t *testing.T) {
	p, app, _ := s.warmPlace(t)
	s.run(t, p, app, "feature").Build(t)
	change(t, app)
	if r := s.run(t, p, app, "feature").Build(t); r.Cached() == 0 || r.Cached() == len(r.Steps) {
		t.Fatalf("a changed build: %d of %d steps cached", r.Cached(), len(r.Steps))
	}
	for range 5 {
		allCached(t, s.run(t, p, app, "feature").Build(t))
	}
}

func (s suite) branchReadsMain(t *testing.T) {
	p, app, _ := s.warmPlace(t)
	before := s.manifest(t, p, "b-main")
	r := s.run(t, p, app, "feature").Build(t)
	allCached(t, r)
	if r.Source("b-feature") != "absent" || r.Source("b-main") != "loaded" || r.Outcome(t) != "written" {
		t.Errorf("sources %v, exports %v", r.Sources, r.Exports)
	}
	if after := s.manifest(t, p, "b-main"); !bytes.Equal(before.Raw, after.Raw) {
		t.Error("the branch's build changed main's cache")
	}
	if m := s.manifest(t, p, "b-feature"); !s.h.Inline && m.Record.Branch != "feature" {
		t.Errorf("record %+v", m.Record)
	}
}

func (s suite) missingSource(t *testing.T) {
	r := s.run(t, s.h.New(t), App(t), "feature", "--cache-fallbacks", "gone").Build(t)
	for _, name := range []string{"b-feature", "b-gone", "b-main"} {
		if r.Source(name) != "absent" {
			t.Errorf("%s is %q", name, r.Source(name))
		}
	}
}

func (s suite) untrusted(t *testing.T) {
	p, app, _ := s.warmPlace(t)
	before := p.Names(t)
	r := s.run(t, p, app, "main", "--pull-request", "7", "--trusted=false").Build(t)
	allCached(t, r)
	if len(r.Exports) != 0 {
		t.Errorf("exports %v", r.Exports)
	}
	if after := p.Names(t); !slices.Equal(before, after) {
		t.Errorf("the store holds %v, held %v", after, before)
	}
}

func (s suite) oddBranches(t *testing.T) {
	p, app := s.h.New(t), App(t)
	odd := []string{"feature/ä", "x,ref=evil.example/o/r", "x;main", "..", `a"b$(id)`, strings.Repeat("long/", 60), "🚀"}
	names := map[string]bool{}
	for _, branch := range odd {
		r := s.run(t, p, app, branch).Build(t)
		if r.Outcome(t) != "written" && r.Outcome(t) != "unchanged" {
			t.Errorf("branch %q: export %v", branch, r.Exports)
		}
		names[r.Exports[0].Name] = true
		s.manifest(t, p, scope.Name(r.Exports[0].Name))
	}
	if len(names) != len(odd) {
		t.Errorf("%d branches have %d names", len(odd), len(names))
	}
}

func (s suite) twoKeys(t *testing.T) {
	p, app, _ := s.warmPlace(t, "--cache-key", "one")
	r := s.run(t, p, app, "main", "--cache-key", "two").Build(t)
	if r.Cached() != 0 || r.Source("b-main.two") != "absent" {
		t.Errorf("%d steps cached, sources %v", r.Cached(), r.Sources)
	}
	allCached(t, s.run(t, p, app, "main", "--cache-key", "one").Build(t))
}

func (s suite) modes(t *testing.T) {
	count := map[string]int{}
	for _, mode := range []string{"min", "max"} {
		p, _, _ := s.warmPlace(t, "--cache-mode", mode)
		count[mode] = len(s.manifest(t, p, "b-main").Layers)
	}
	if count["min"] == 0 || count["min"] >= count["max"] {
		t.Errorf("layers by mode: %v", count)
	}
}

// The first bytes of each compression: RFC 1952, RFC 8878, and a tar header that
// begins with a name. An estargz layer ends in a footer of its own.
var compressions = []struct{ name, mediaType, magic, footer string }{
	{"gzip", "application/vnd.oci.image.layer.v1.tar+gzip", "\x1f\x8b", ""},
	{"estargz", "application/vnd.oci.image.layer.v1.tar+gzip", "\x1f\x8b", "STARGZ"},
	{"zstd", "application/vnd.oci.image.layer.v1.tar+zstd", "\x28\xb5\x2f\xfd", ""},
	{"uncompressed", "application/vnd.oci.image.layer.v1.tar", "", ""},
}

func (s suite) compressions(t *testing.T) {
	for _, c := range compressions {
		t.Run(c.name, func(t *testing.T) {
			p, app, _ := s.warmPlace(t, "--compression", c.name, "--force-compression")
			store := s.store(t, p)
			m := s.manifest(t, p, "b-main")
			for _, layer := range m.Layers {
				if layer.MediaType != c.mediaType {
					t.Errorf("media type %s", layer.MediaType)
				}
				content := content(t, store, layer.Digest)
				if !strings.HasPrefix(content, c.magic) {
					t.Errorf("layer begins with %q", content[:4])
				}
				if tail := content[max(0, len(content)-64):]; !strings.Contains(tail, c.footer) {
					t.Errorf("layer ends with %q", tail)
				}
			}
			allCached(t, s.run(t, p, app, "main", "--compression", c.name, "--force-compression").Build(t))
		})
	}
}

func (s suite) mediaTypes(t *testing.T) {
	for _, c := range []struct{ oci, image, want, layer string }{
		{"true", "true", "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"},
		{"true", "false", "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"},
		{"false", "false", "application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"},
	} {
		t.Run(fmt.Sprintf("oci=%s image=%s", c.oci, c.image), func(t *testing.T) {
			p, app, _ := s.warmPlace(t, "--oci-mediatypes="+c.oci, "--image-manifest="+c.image, "--compression", "gzip")
			m := s.manifest(t, p, "b-main")
			if (m.MediaType != c.want && !s.h.Object) || m.Layers[0].MediaType != c.layer {
				t.Errorf("manifest %s, layer %s", m.MediaType, m.Layers[0].MediaType)
			}
			allCached(t, s.run(t, p, app, "main").Build(t))
		})
	}
}

func (s suite) secrets(t *testing.T) {
	const canary = "canary-0b5e9d"
	p, app := s.h.New(t), App(t)
	Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch AS base\nADD rootfs.tar /\nRUN --mount=type=secret,id=token echo token is $(cat /run/secrets/token)\n")
	out := s.run(t, p, app, "main", "--secrets", "token="+canary).Start(t)
	if out.Code != 0 || !strings.Contains(out.Text, "token is ***") {
		t.Fatalf("exit code %d:\n%s", out.Code, out.Text)
	}
	for _, secret := range []string{canary, p.Key} {
		if secret != "" && strings.Contains(out.Text+out.Files, secret) {
			t.Errorf("%s is in the output", secret)
		}
	}
}

// store opens the place's scopes for the test to look into.
func (s suite) store(t testing.TB, p Place) backends.Scopes { return Open(t, p) }

func (s suite) manifest(t testing.TB, p Place, n scope.Name) backends.Manifest {
	t.Helper()
	m, err := s.store(t, p).Manifest(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// entries are buildctl's words for what BuildKit's native entries say.
func entries(flag string, list []client.CacheOptionsEntry) []string {
	var args []string
	for _, e := range list {
		text := "type=" + e.Type
		for k, v := range e.Attrs {
			text += "," + k + "=" + v
		}
		args = append(args, flag, text)
	}
	return args
}
