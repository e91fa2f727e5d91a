package conformance

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// severalFile builds variants that share a stage.
const severalFile = `FROM scratch AS deps
ADD rootfs.tar /
ARG V=0
RUN echo "dependencies $V" > /deps
FROM deps AS build
COPY site site
RUN cat site/*.txt > /index.html
`

// variant is a build of a matrix. The zero value is that of all defaults.
type variant struct{ argument, target string }

// matrix are builds that differ in their build arguments (moby/buildkit#2299) or their target
// (moby/buildkit#3925).
var matrix = []variant{{argument: "V=1"}, {argument: "V=2"}, {target: "deps"}, {target: "build"}}

// flags are those of a program with these names.
func (v variant) flags(argument, target string) (all []string) {
	if v.argument != "" {
		all = append(all, argument, v.argument)
	}
	if v.target != "" {
		all = append(all, target, v.target)
	}
	return all
}

func (v variant) ours() []string { return v.flags("--build-args", "--target") }

// buildctl are the options of buildctl.
func (v variant) buildctl() (all []string) {
	if v.argument != "" {
		all = append(all, "--opt", "build-arg:"+v.argument)
	}
	if v.target != "" {
		all = append(all, "--opt", "target="+v.target)
	}
	return all
}

// several is an app with variants.
func several(t *testing.T) string {
	t.Helper()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), severalFile)
	return app
}

// variants: the builds of one scope do not replace each other, whether they differ in their build
// arguments, their target or, as after a revert, their files. A target begins with the steps of
// another one. Everything that was built once is cached the second time.
func (s suite) variants(t *testing.T) {
	c, app := s.h.open(t), several(t)
	original, changed := "Original\n", "Changed\n"
	site := filepath.Join(app, "site", "index.txt")
	testkit.Write(t, site, original)
	for _, v := range matrix {
		r := s.run(t, c, app, "main", v.ours()...).Build(t)
		if r.Outcome(t) != "written" {
			t.Errorf("%+v: export %v", v, r.Exports)
		}
		if shared := r.Cached(); v.target == "build" && shared != 2 {
			t.Errorf("%d steps of another target are cached, not 2: %+v", shared, r.Steps)
		}
	}
	testkit.Write(t, site, changed)
	if r := s.run(t, c, app, "main", matrix[0].ours()...).Build(t); r.Cached() == 0 || r.Cached() == len(r.Steps) {
		t.Errorf("a changed build: %d of %d steps cached", r.Cached(), len(r.Steps))
	}
	testkit.Write(t, site, original)
	for _, v := range matrix {
		allCached(t, s.run(t, c, app, "main", v.ours()...).Build(t))
	}
}

// variantsElsewhere: BuildKit's own client and docker buildx import the scope natively, and find
// every step of every variant.
func (s suite) variantsElsewhere(t *testing.T) {
	c, app := s.h.open(t), several(t)
	for _, v := range matrix {
		s.run(t, c, app, "main", v.ours()...).Build(t)
	}
	imports := c.cache().Backend(t).Imports(scope.Plan{Read: []scope.Source{{Name: "b-main"}}})
	store := map[string]string{"BUILDX_CONFIG": t.TempDir()}
	for i, v := range matrix {
		said := testkit.Buildctl(t, testkit.StartBuildkitd(t), app, slices.Concat(v.buildctl(), entries("--import-cache", imports))...)
		if ran := executed(said); len(ran) > 0 {
			t.Errorf("%+v: buildctl ran %v:\n%s", v, ran, said)
		}
		builder := string(rune('a' + i))
		testkit.Buildx(t, store, "create", "--name", builder, "--driver", "remote", testkit.StartBuildkitd(t))
		said = testkit.Buildx(t, store, slices.Concat([]string{"build", "--builder", builder, "--progress", "plain", "--output", "type=cacheonly"},
			v.flags("--build-arg", "--target"), entries("--cache-from", imports), []string{app})...)
		if ran := executed(said); len(ran) > 0 {
			t.Errorf("%+v: buildx ran %v:\n%s", v, ran, said)
		}
	}
}

// TestAnywhere builds the same files from several places: they have one scope, and every build after the
// first one is fully cached.
func TestAnywhere(t *testing.T) {
	t.Parallel()
	for kind, open := range map[string]func(*testing.T) store{"registry": repositories(t, "registry"), "s3": buckets(t)} {
		t.Run(kind+" checkout", func(t *testing.T) {
			t.Parallel()
			at := t.TempDir()
			checkout, web := filepath.Join(at, "checkout"), filepath.Join(at, "checkout", "web")
			fill(t, filepath.Join(checkout, ".git"), "HEAD", "ref: refs/heads/main\n")
			fill(t, web, "Dockerfile", "FROM scratch\nCOPY page /\n")
			fill(t, web, "page", "A page\n")
			if err := os.Symlink("checkout", filepath.Join(at, "link")); err != nil {
				t.Fatal(err)
			}
			oneScope(t, open(t), "main", []started{
				{web, "."}, {checkout, "web"}, {at, "checkout/web"}, {"/", web}, {filepath.Join(at, "link"), "web"}, {at, "link/web"},
			})
		})
		// Tools generate contexts, at another path each time, and builds need no Git and no CI.
		for branch, name := range map[string]string{"main": "b-main", "": "local"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				var from []started
				for range 3 {
					dir := t.TempDir()
					fill(t, dir, "Dockerfile", "FROM scratch\nCOPY page /\n")
					fill(t, dir, "page", "A page\n")
					from = append(from, started{"/", dir}, started{dir, "."})
				}
				if got := oneScope(t, open(t), branch, from); got != name {
					t.Errorf("scope %s, want %s", got, name)
				}
			})
		}
	}
}

// started is where the program is started, and the context as it is given.
type started struct{ dir, context string }

func fill(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(dir, name), content)
}

// oneScope builds the same files from each place, all of which have the scope that is returned.
func oneScope(t *testing.T, c store, branch string, from []started) (written string) {
	t.Helper()
	for i, at := range from {
		r := suite{}.run(t, c, at.dir, branch)
		r.Args = append(r.Args, at.context)
		report := r.Build(t)
		if len(report.Exports) != 1 {
			t.Fatalf("%+v: exports %+v", at, report.Exports)
		}
		if i == 0 {
			written = report.Exports[0].Name
			continue
		}
		if allCached(t, report); report.Exports[0].Name != written || report.Outcome(t) != "unchanged" {
			t.Errorf("%+v: exports %+v, the first build's scope is %s", at, report.Exports, written)
		}
	}
	return written
}
