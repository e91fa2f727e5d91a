package conformance

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// TestGrowth builds an app that changes, is built again without a change, and is reverted. A build that
// repeats adds nothing to the store, and what the scope keeps of earlier builds stays within its limit.
// The long form has 30 builds, and logs a table with the bytes of BuildKit's own export beside ours.
func TestGrowth(t *testing.T) {
	t.Parallel()
	for kind, open := range map[string]func(*testing.T) measured{"registry": ownRegistry, "local": ownDirectory} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			g := &growth{app: several(t), ours: open(t), theirs: open(t)}
			testkit.Write(t, filepath.Join(g.app, "Dockerfile"), changingFile)
			g.logf("| build | change | steps run by warmlayer | its scope | its store | steps that BuildKit does not call cached | its cache | its store |")
			g.logf("| --: | :-- | --: | --: | --: | --: | --: | --: |")
			for i := range testkit.Long(6, 30) {
				g.build(t, i)
			}
			if testkit.Soak() {
				t.Logf("sizes in kB:\n%s", g.table.String())
			}
		})
	}
}

// changingFile has 3 MB of dependencies and 1 MB of code.
const changingFile = `FROM scratch AS deps
ADD rootfs.tar /
COPY deps /deps
RUN head -c 3000000 /dev/urandom > /installed
FROM deps
COPY code /code
RUN head -c 1000000 /dev/urandom > /compiled
`

// measured is a store whose files are counted.
type measured struct {
	store
	dir string // of the store, which nothing else is in
}

func ownRegistry(t *testing.T) measured {
	t.Helper()
	r := testkit.StartRegistry(t)
	image := r.Repository()
	return measured{store{line: "type=registry,ref=" + image, image: image}, r.Root}
}

func ownDirectory(t *testing.T) measured {
	t.Helper()
	dir := filepath.Join(testkit.Temp(t), "cache")
	return measured{store{line: "type=local,dest=" + dir}, dir}
}

// use is how many bytes a store has: what its scope needs, and all files.
type use struct{ scope, all int64 }

func (m measured) use(t *testing.T) (u use) {
	t.Helper()
	manifest := m.manifest(t, "b-main")
	u.scope = int64(len(manifest.Raw))
	for _, b := range manifest.Blobs() {
		u.scope += b.Size
	}
	err := filepath.WalkDir(m.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "_uploads" {
			return fs.SkipDir // a registry removes uploads that were begun, such as to learn who may write
		}
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				u.all += info.Size()
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// growth is an app with two caches.
type growth struct {
	app          string
	ours, theirs measured
	codes        []string // of the builds so far
	last         use
	table        strings.Builder
}

func (g *growth) logf(format string, args ...any) { fmt.Fprintf(&g.table, format+"\n", args...) }

// change edits the app for a build, and says what has changed.
func (g *growth) change(t *testing.T, i int) string {
	t.Helper()
	what, code := "code", fmt.Sprintf("code %d\n", i)
	switch {
	case i == 0:
		what = "first build"
		testkit.Write(t, filepath.Join(g.app, "deps"), "deps 0\n")
	case i%3 == 2:
		what, code = "none", g.codes[i-1]
	case i%10 == 0:
		what = "dependencies and code"
		testkit.Write(t, filepath.Join(g.app, "deps"), fmt.Sprintf("deps %d\n", i))
	case i%10 == 4:
		what, code = "reverted code", g.codes[i-4]
	}
	g.codes = append(g.codes, code)
	testkit.Write(t, filepath.Join(g.app, "code"), code)
	return what
}

func (g *growth) build(t *testing.T, i int) {
	t.Helper()
	what := g.change(t, i)
	r := testkit.Invocation{Dir: g.app, Branch: "main", Args: []string{"--cache", g.ours.line, "--outputs", "type=cacheonly"}}.Build(t)
	u := g.ours.use(t)
	if what == "none" && (u != g.last || r.Outcome(t) != "unchanged") {
		t.Errorf("build %d repeats: %s, bytes %+v before, %+v now", i+1, r.Outcome(t), g.last, u)
	}
	if ran := len(r.Steps) - r.Cached(); what == "none" && ran > 0 || what == "reverted code" && ran > 0 {
		t.Errorf("build %d, %s: %d steps were run", i+1, what, ran)
	}
	builds := held(t, g.ours.store)
	largest := int64(0)
	all := kept{}
	for _, b := range builds {
		largest, all.layers = max(largest, b.bytes(nil)), slices.Concat(all.layers, b.layers)
	}
	slices.SortFunc(all.layers, func(a, b layer) int { return strings.Compare(a.digest.String(), b.digest.String()) })
	all.layers = slices.Compact(all.layers)
	if added := all.bytes(builds[0].layers); added > largest {
		t.Errorf("build %d: earlier builds add %d bytes to %d", i+1, added, largest)
	}
	g.last = u
	if !testkit.Soak() {
		return
	}
	ran := g.native(t, i)
	b := g.theirs.use(t)
	g.logf("| %d | %s | %d | %d | %d | %d | %d | %d |", i+1, what, len(r.Steps)-r.Cached(), u.scope/1000, u.all/1000, ran, b.scope/1000, b.all/1000)
}

// native builds with BuildKit's own import and export, and returns how many steps BuildKit does not call
// cached. It does not when it fetches the layer of a step.
func (g *growth) native(t *testing.T, i int) int {
	t.Helper()
	plan := scope.Plan{Write: "b-main", Read: []scope.Source{{Name: "b-main"}}}
	backend := g.theirs.cache().Backend(t)
	args := entries("--export-cache", backend.Exports(plan))
	if i > 0 {
		args = slices.Concat(args, entries("--import-cache", backend.Imports(plan)))
	}
	return len(executed(testkit.Buildctl(t, testkit.StartBuildkitd(t), g.app, args...)))
}
