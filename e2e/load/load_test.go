// Package load tests that many builds, one after another and at once, leave nothing behind that
// grows: no files, and in one process no goroutines, descriptors or memory.
package load

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// shared are the directories that steps on one machine share.
type shared struct {
	root string // of tmp, home, docker, report and cache
}

func newShared(t *testing.T) shared {
	t.Helper()
	s := shared{testkit.Temp(t)}
	for _, dir := range []string{"tmp", "home", "docker", "report"} {
		if err := os.Mkdir(s.dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s shared) dir(name string) string { return filepath.Join(s.root, name) }

// cache is a local cache in a shared directory.
func (s shared) cache() testkit.Cache {
	return testkit.Cache{Line: "type=local,dest=" + s.dir("cache")}
}

// environ is the environment of all steps.
func (s shared) environ() map[string]string {
	return map[string]string{"PATH": os.Getenv("PATH"), "TMPDIR": s.dir("tmp"), "HOME": s.dir("home"), "DOCKER_CONFIG": s.dir("docker")}
}

// build is a build of an app with the shared directories.
func (s shared) build(app, branch string, args ...string) testkit.Invocation {
	return testkit.Invocation{
		Dir: app, Branch: branch, Env: s.environ(), Docker: s.dir("docker"), Report: s.dir("report"),
		Args: append([]string{"--cache", s.cache().Line}, args...),
	}
}

// files are the sizes of all files, except those of the report, whose times have different lengths.
func (s shared) files(t *testing.T) map[string]int64 {
	t.Helper()
	sizes := map[string]int64{}
	err := filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if sizes[strings.TrimPrefix(path, s.root)] = 0; err == nil && !strings.HasPrefix(path, s.dir("report")) {
			sizes[strings.TrimPrefix(path, s.root)] = info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sizes
}

// same checks that the files are those of an earlier time.
func (s shared) same(t *testing.T, before map[string]int64) {
	t.Helper()
	if after := s.files(t); !maps.Equal(before, after) {
		t.Errorf("the files were\n%v\nand are\n%v", before, after)
	}
}

// TestInARow: builds that repeat make no files, and the caches do not grow.
func TestInARow(t *testing.T) {
	t.Parallel()
	s, app, registry := newShared(t), testkit.App(t), testkit.StartRegistry(t)
	r := s.build(app, "main", "--builder", testkit.StartBuildkitd(t), "--tags", registry.Repository()+":v1", "--push")
	r.Build(t)
	r.Build(t)
	before, pushed := s.files(t), size(t, registry.Root)
	for range testkit.Long(20, 200) {
		if report := r.Build(t); report.Cached() != len(report.Steps) {
			t.Fatalf("%d of %d steps cached", report.Cached(), len(report.Steps))
		}
	}
	s.same(t, before)
	if now := size(t, registry.Root); now != pushed {
		t.Errorf("the registry has grown from %d to %d bytes", pushed, now)
	}
}

// size is that of all files of a registry, in bytes. Uploads are left out: the registry keeps 108 bytes
// of each one that a client cancels for a week (distribution v3, registry/storage/blobwriter.go), as
// the check before a build does whether it may push.
func size(t *testing.T, dir string) int64 {
	t.Helper()
	sum := int64(0)
	for path, one := range (shared{dir}).files(t) {
		if !strings.Contains(path, "/_uploads/") {
			sum += one
		}
	}
	return sum
}

// TestAtOnce: steps on one machine, each with its own builder and branch, share all directories.
// All succeed, leave only their caches and one report, and each cache is whole.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	s, registry := newShared(t), testkit.StartRegistry(t)
	var runs []testkit.Invocation
	for i := range testkit.Long(4, 16) {
		app := testkit.App(t)
		testkit.Write(t, filepath.Join(app, "site", "index.txt"), "Page\n\n"+strconv.Itoa(i))
		runs = append(runs, s.build(app, string(rune('a'+i)), "--tags", registry.Repository()+":v1", "--push"))
	}
	for range 2 {
		outputs := testkit.StartAll(t, runs...)
		for i, out := range outputs {
			if out.Code != 0 || len(out.Report.Warnings) > 0 {
				t.Fatalf("step %d: exit code %d, warnings %q:\n%s", i, out.Code, out.Report.Warnings, out.Text)
			}
		}
		s.finished(t)
	}
	for _, r := range runs {
		whole(t, s.cache(), scope.Name("b-"+r.Branch))
		if report := r.Build(t); report.Cached() != len(report.Steps) {
			t.Errorf("%s: %d of %d steps cached", r.Branch, report.Cached(), len(report.Steps))
		}
	}
}

// finished checks that steps have left nothing but the report and finished files of the cache.
func (s shared) finished(t *testing.T) {
	t.Helper()
	for path := range s.files(t) {
		name := filepath.Base(path)
		switch dir := filepath.Dir(path); {
		case dir == "/report" && strings.HasPrefix(name, "warmlayer."):
		case dir == "/cache" && slices.Contains([]string{"index.json", "index.json.lock", "oci-layout"}, name):
		case dir == "/cache/blobs/sha256" && len(name) == 64:
		default:
			t.Errorf("%s remains", path)
		}
	}
	content, err := os.ReadFile(filepath.Join(s.dir("report"), "warmlayer.json"))
	var one testkit.Report
	if err == nil {
		err = json.Unmarshal(content, &one)
	}
	if err != nil || !one.OK {
		t.Errorf("the report is %s, %v", content, err)
	}
}

// whole checks that a scope is complete and every blob has the right content.
func whole(t *testing.T, c testkit.Cache, n scope.Name) {
	t.Helper()
	scopes := c.Scopes(t)
	m, err := scopes.Manifest(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range m.Blobs() {
		if _, err := backends.ReadBlob(t.Context(), scopes, desc, desc.Size); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}
