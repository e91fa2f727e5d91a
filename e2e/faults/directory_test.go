package faults

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/gofrs/flock"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// directories are copied file by file. The path of a cell's cache is a symbolic link, so that a
// fault can put another directory in its place.
func directories(t *testing.T, fill filling) func(*testing.T) *store {
	dir := filepath.Join(testkit.Temp(t), "first")
	first := testkit.Cache{Line: "type=local,dest=" + dir}
	fill(t, first)
	m := manifest(t, first)
	return func(t *testing.T) *store {
		place := testkit.Temp(t)
		real, path := filepath.Join(place, "real"), filepath.Join(place, "cache")
		err := os.CopyFS(real, os.DirFS(dir))
		if err == nil {
			err = os.Symlink(real, path)
		}
		if err != nil {
			t.Fatal(err)
		}
		return &store{cache: testkit.Cache{Line: "type=local,dest=" + path}, dir: real, link: path, manifest: m}
	}
}

// blob is the file of a blob.
func (s *store) blob(d digest.Digest) string {
	return filepath.Join(s.dir, "blobs", "sha256", d.Encoded())
}

// index is the file that names the scopes.
func (s *store) index() string { return filepath.Join(s.dir, "index.json") }

// named is the manifest's blob that the index names.
func (s *store) named(t *testing.T) string {
	t.Helper()
	var index ocispecs.Index
	content, err := os.ReadFile(s.index())
	if err == nil {
		err = json.Unmarshal(content, &index)
	}
	if err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%d manifests, %v", len(index.Manifests), err)
	}
	return s.blob(index.Manifests[0].Digest)
}

// harm is what happens to a file.
type harm func(t *testing.T, path string)

// rewritten has another content.
func rewritten(change func([]byte) []byte) harm {
	return func(t *testing.T, path string) {
		content, err := os.ReadFile(path)
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		testkit.Write(t, path, string(change(content)))
	}
}

func deleted(t *testing.T, path string) {
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// replaced puts something else in the place of a file, until the fault is lifted.
func replaced(file func(*testing.T, *store) string, by func(path string) error) func(*testing.T, *store, phase) {
	return func(t *testing.T, s *store, _ phase) {
		path := file(t, s)
		aside := path + ".aside"
		_, missing := os.Stat(path)
		if missing == nil {
			move(t, path, aside)
		}
		if err := by(path); err != nil {
			t.Fatal(err)
		}
		s.lift = append(s.lift, func() {
			if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
				deleted(t, path)
			}
			if _, err := os.Lstat(path); missing == nil && err != nil {
				move(t, aside, path) // an export has not replaced it
			}
		})
	}
}

// A FIFO without a writer blocks whoever opens it.
func fifo(path string) error { return unix.Mkfifo(path, 0o644) }

// A directory cannot be read as a file, by root neither.
func directory(path string) error { return os.Mkdir(path, 0o755) }

func move(t *testing.T, from, to string) {
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// huge is a file of a gigabyte, after a beginning.
func huge(beginning string) harm {
	return func(t *testing.T, path string) {
		deleted(t, path)
		testkit.Write(t, path, beginning)
		if err := os.Truncate(path, 1<<30); err != nil {
			t.Fatal(err)
		}
	}
}

func garbage([]byte) []byte { return []byte("<html>Welcome</html>") }

// to harms the file of a phase: the index, the layer that all steps need.
func to(h harm, file func(*testing.T, *store) string) func(*testing.T, *store, phase) {
	return func(t *testing.T, s *store, _ phase) { h(t, file(t, s)) }
}

func theIndex(_ *testing.T, s *store) string    { return s.index() }
func theLock(_ *testing.T, s *store) string     { return s.index() + ".lock" }
func theManifest(t *testing.T, s *store) string { return s.named(t) }
func theConfig(_ *testing.T, s *store) string   { return s.blob(s.manifest.Config.Digest) }
func theLayer(_ *testing.T, s *store) string    { return s.blob(largest(s.manifest)) }

var only = func(in ...phase) []phase { return in }

// directoryFaults are those of files.
var directoryFaults = []fault{
	{name: "index cut off", in: only(reading), not: indexOnly, set: to(rewritten(testkit.Halved), theIndex)},
	{name: "index garbage", in: only(reading), not: indexOnly, set: to(rewritten(garbage), theIndex)},
	{name: "index huge", in: only(reading), not: indexOnly, set: to(huge(`{"manifests":[]`), theIndex)},
	{name: "index unreadable", in: only(reading), not: indexOnly, set: replaced(theIndex, directory)},
	{name: "index is a FIFO", in: only(reading), not: indexOnly, set: replaced(theIndex, fifo), slow: true},
	{name: "manifest cut off", in: only(reading), not: manifestOnly, set: to(rewritten(testkit.Halved), theManifest)},
	{name: "manifest with a flipped bit", in: only(reading), not: manifestOnly, set: to(rewritten(testkit.Flipped), theManifest)},
	{name: "manifest deleted", in: only(reading), not: manifestOnly, set: to(deleted, theManifest)},
	{name: "config cut off", in: only(reading), not: manifestOnly, set: to(rewritten(testkit.Halved), theConfig)},
	{name: "config with a flipped bit", in: only(reading), not: manifestOnly, set: to(rewritten(testkit.Flipped), theConfig)},
	{name: "config deleted", in: only(reading), not: manifestOnly, set: to(deleted, theConfig)},
	{name: "config is a FIFO", in: only(reading), not: manifestOnly, set: replaced(theConfig, fifo), slow: true},
	{name: "layer cut off", in: only(importing), not: lookedUp, set: to(rewritten(testkit.Halved), theLayer)},
	{name: "layer deleted", in: only(importing), not: lookedUp, set: to(deleted, theLayer)},
	{name: "layer is a FIFO", in: only(importing), not: lookedUp, set: replaced(theLayer, fifo), slow: true},
	{name: "layer unreadable", in: only(importing), not: lookedUp, set: replaced(theLayer, directory)},
	{name: "layer with a flipped bit", in: only(extracting), not: "the size is right, so only its reader finds it", set: to(rewritten(testkit.Flipped), theLayer)},
	{name: "dead mount", in: only(reading), not: "it answers nothing from the first operation on", slow: true, set: func(t *testing.T, s *store, _ phase) {
		s.elsewhere(t, testkit.DeadMount(t))
	}},
	{name: "read-only file system", in: only(uploading), not: "it can be read", set: func(t *testing.T, s *store, _ phase) {
		s.mounted(t, s.dir, "", unix.MS_BIND, "")
		if err := unix.Mount("", s.dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "full disk", in: only(uploading), not: "it can be read", set: func(t *testing.T, s *store, _ phase) {
		ingest := filepath.Join(s.dir, "ingest")
		if err := os.MkdirAll(ingest, 0o755); err != nil {
			t.Fatal(err)
		}
		s.mounted(t, "warmlayer-test", ingest, 0, "nr_inodes=1") // room for its own directory, and no file
	}},
	{name: "ingest is a file", in: only(uploading), not: "only uploads use it", set: func(t *testing.T, s *store, _ phase) {
		ingest := filepath.Join(s.dir, "ingest")
		deleted(t, ingest)
		testkit.Write(t, ingest, "")
		s.lift = append(s.lift, func() { deleted(t, ingest) })
	}},
	{name: "index locked", in: only(committing), not: "only a commit takes the lock", slow: true, set: func(t *testing.T, s *store, _ phase) {
		lock := flock.New(s.index() + ".lock")
		if ok, err := lock.TryLock(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		s.lift = append(s.lift, func() { _ = lock.Unlock() })
	}},
	{name: "lock unreadable", in: only(committing), not: "only a commit takes the lock", set: replaced(theLock, directory)},
}

const (
	indexOnly    = "the index is read in the phase read, and replaced as a whole"
	manifestOnly = "manifests and configs are read in the phase read, and new ones are other files"
	lookedUp     = "layers are looked up in the phase import"
)

// elsewhere puts another directory in the place of the cell's, until the fault is lifted.
func (s *store) elsewhere(t *testing.T, dir string) {
	point := func(to string) {
		err := os.Remove(s.link)
		if err == nil {
			err = os.Symlink(to, s.link)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	point(dir)
	s.lift = append(s.lift, func() { point(s.dir) })
}

// mounted mounts on a directory, until the fault is lifted: with an empty target on the source itself.
func (s *store) mounted(t *testing.T, source, target string, flags uintptr, data string) {
	if target == "" {
		target = source
	}
	if err := unix.Mount(source, target, "tmpfs", flags, data); err != nil {
		t.Fatal(err)
	}
	s.lift = append(s.lift, func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
