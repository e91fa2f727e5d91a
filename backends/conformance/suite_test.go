// Package conformance tests that each backend behaves as promised, with real servers.
//
// A backend passes with one harness, in its own file:
//
//	func TestLocal(t *testing.T) {
//		t.Parallel()
//		conform(t, harness{open: directories(t)})
//	}
//
// The suite runs the program as its users do, each time with an empty builder, and inspects the
// stores. In CI a server or a program that is missing from the machine is a failure: see
// [testkit.Need].
package conformance

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// harness is one backend, with one kind of builder.
type harness struct {
	open func(t *testing.T) store // a new, empty store on a server that all stores share

	remote  bool // through a remote builder: native cache entries, and no gateway
	inline  bool // the cache is in the image: no modes, compressions or media types
	eager   bool // BuildKit fetches layers before a step needs them: its own local cache does
	object  bool // the store has objects and no manifests: their media types cannot be chosen
	coarse  bool // BuildKit may read the older one of two versions that were written in one second
	seconds bool // of two builds that end in the same second one may replace the other: act's server orders them by seconds
	refs    bool // the server gives each Git ref a cache of its own: no scope is shared by several
	gzip    bool // BuildKit writes every layer with gzip: no compressions
}

// store is an empty store of a backend.
type store struct {
	line  string                      // the cache line: "type=local,dest=/tmp/x"
	image string                      // a name to push images to: "127.0.0.1:5001/app"
	key   string                      // the credential in line or env; "": none
	names func(t testing.TB) []string // names of everything in it, for comparison
	// env is the environment of a job for a branch; for "" that of a job for main, which may read
	// everything. Nil: an empty environment.
	env func(branch string) map[string]string
}

func (c store) environment(branch string) map[string]string {
	if c.env == nil {
		return nil
	}
	return c.env(branch)
}

// cache opens the store as the program does.
func (c store) cache() testkit.Cache {
	return testkit.Cache{Line: c.line, Image: c.image, Env: c.environment("")}
}

func (c store) scopes(t testing.TB) backends.Scopes { return c.cache().Scopes(t) }

func (c store) manifest(t testing.TB, n scope.Name) backends.Manifest {
	t.Helper()
	m, err := c.scopes(t).Manifest(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// conform runs the whole suite.
func conform(t *testing.T, h harness) {
	s := suite{h}
	tests := []struct {
		name string
		run  func(*testing.T)
		not  bool // the property does not apply
	}{
		{"successive builds", s.successive, false},
		{"missing source", s.missingSource, false},
		{"odd branch names", s.oddBranches, false},
		{"two keys in one store", s.twoKeys, false},
		{"variants of one scope", s.variants, s.h.inline || s.h.coarse}, // an image has its own cache alone
		{"other programs read every variant", s.variantsElsewhere, s.h.inline || s.h.remote},
		{"scopes are merged without an export", s.mergedScopes, s.h.inline || s.h.remote},
		{"a merge queue", s.mergeQueue, s.h.refs},
		{"an empty cache replaces nothing", s.empty, false},
		{"mode min and max", s.modes, h.inline},
		{"compressions", s.compressions, h.inline || h.gzip},
		{"media types", s.mediaTypes, h.inline || h.object && h.remote},
		{"a failed build", s.failed, h.inline},                 // makes no image
		{"same image with every cache", s.sameImage, h.inline}, // an inline cache is in its config
		{"filled by a build that pushes nothing", s.noImage, h.inline},
		{"buildctl reads the program's cache, and the program buildctl's", s.interoperates, false},
		{"no secret in any output", s.secrets, false},
		{"cache mounts", s.mounts, s.h.inline},
		{"several exports to one scope at once", s.atOnce, s.h.remote && !testkit.Soak()},
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

type suite struct{ h harness }

// run is a build of an app with the store as its cache, on an empty builder.
func (s suite) run(t *testing.T, c store, app, branch string, args ...string) testkit.Invocation {
	t.Helper()
	r := testkit.Invocation{Dir: app, Branch: branch, Args: args, Env: c.environment(branch)}
	if !slices.Contains(args, "--cache") {
		r.Args = append(r.Args, "--cache", c.line)
	}
	if s.h.remote {
		r.Args = append(r.Args, "--builder", testkit.StartBuildkitd(t))
	}
	r.Args = append(r.Args, "--tags", c.image+":v1", "--push")
	return r
}

// oneStep is an app for properties that are independent of what is built: its build runs no
// program.
func oneStep(t *testing.T) string {
	t.Helper()
	app := t.TempDir()
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nCOPY . /src\n")
	return app
}

// twoStages is an app for properties of layers and images. It has stages, files from the context
// and one step that runs a program. The test app has several such steps, so it takes longer.
func twoStages(t *testing.T) string {
	t.Helper()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch AS base\nADD rootfs.tar /\n"+
		"FROM base AS pages\nCOPY site site\nRUN mkdir /www && cat site/*.txt > /www/index.html\n"+
		"FROM base\nCOPY --from=pages /www /www\n")
	return app
}

// warm is a new store with the cache of an app's main, and the report of the build that wrote it.
func (s suite) warm(t *testing.T, app string, args ...string) (store, testkit.Report) {
	t.Helper()
	c := s.h.open(t)
	cold := s.run(t, c, app, "main", args...).Build(t)
	if cold.Cached() != 0 || cold.Outcome(t) != "written" {
		t.Fatalf("a first build: %d steps cached, export %s", cold.Cached(), cold.Outcome(t))
	}
	return c, cold
}

func allCached(t *testing.T, r testkit.Report) {
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
