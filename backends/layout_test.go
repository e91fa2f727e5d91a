package backends_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/buildkit/client/ociindex"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("TEST_EXPORT_TO"); dir != "" {
		if err := exportMany(context.Background(), dir, os.Getenv("TEST_EXPORT_AS")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv("TEST_PUT_INTO"); dir != "" {
		if err := localStore(dir).Put(context.Background(), uploaded, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestLayout(t *testing.T) {
	t.Parallel()
	for _, form := range []string{imageManifest, imageIndex, dockerList} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "not", "yet")
			store, c := local(t, dir, ""), newCache(t, form, "one", "two")
			c.put(t, store)
			c.put(t, store) // the second time, which changes nothing
			if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
				t.Fatal(err)
			}
			source := localSource(t, dir)
			m, err := source.Manifest(t.Context(), "b-main")
			if err != nil || !bytes.Equal(m.Raw, c.Raw) || m.MediaType != form {
				t.Errorf("manifest %s %s, %v", m.MediaType, m.Raw, err)
			}
			absent := digest.FromString("absent")
			sizes, err := source.Stat(t.Context(), []digest.Digest{digest.FromString("one"), absent})
			if err != nil || len(sizes) != 1 || sizes[digest.FromString("one")] != 3 {
				t.Errorf("sizes %v, %v", sizes, err)
			}
			if got := read(t, source, digest.FromString("two"), 0) + read(t, source, digest.FromString("two"), 2); got != "twoo" {
				t.Errorf("read %q", got)
			}
			if _, err := source.Open(t.Context(), absent, 0); !errors.Is(err, backends.ErrAbsent) {
				t.Errorf("an absent blob: %v", err)
			}
			if files := files(t, dir, "ingest"); len(files) > 0 {
				t.Errorf("files remain: %v", files)
			}
		})
	}
}

// files are the names in a directory of the layout.
func files(t testing.TB, dir, sub string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, sub))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestLayoutRefusesOtherContent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		content string
		desc    ocispecs.Descriptor
	}{
		"other content": {"two", ocispecs.Descriptor{Digest: digest.FromString("one"), Size: 3}},
		"cut off":       {"on", ocispecs.Descriptor{Digest: digest.FromString("one"), Size: 3}},
		"other size":    {"one", ocispecs.Descriptor{Digest: digest.FromString("one"), Size: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			err := local(t, dir, "").Put(t.Context(), test.desc, strings.NewReader(test.content))
			if err == nil || !strings.Contains(err.Error(), "does not match") {
				t.Errorf("error %v", err)
			}
			if left := append(files(t, dir, "ingest"), files(t, dir, "blobs/sha256")...); len(left) > 0 {
				t.Errorf("files remain: %v", left)
			}
		})
	}
}

func TestLayoutRefusesManifestWithoutBlobs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, c := local(t, dir, ""), newCache(t, imageManifest, "one", "two")
	c.put(t, store)
	blob := filepath.Join(dir, "blobs", "sha256", digest.FromString("two").Encoded())
	for _, damage := range []func() error{
		func() error { return os.Truncate(blob, 1) },
		func() error { return os.Remove(blob) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err == nil || !strings.Contains(err.Error(), digest.FromString("two").String()) {
			t.Errorf("error %v", err)
		}
		if _, err := store.Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
			t.Errorf("the scope: %v", err)
		}
		if sizes, err := store.Stat(t.Context(), []digest.Digest{digest.FromString("two")}); err != nil || len(sizes) != 0 {
			t.Errorf("the next export would not send the blob: %v, %v", sizes, err)
		}
		c.put(t, store)
	}
	if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Error(err)
	}
}

// Writers in several goroutines of several processes all store their tags.
func TestLayoutConcurrentWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, writer := range []string{"p1", "p2"} {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), program)
			cmd.Env = append(os.Environ(), "TEST_EXPORT_TO="+dir, "TEST_EXPORT_AS="+writer)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Go(func() {
		if err := exportMany(t.Context(), dir, "p0"); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	source := localSource(t, dir)
	for writer := range 3 {
		for n := range exportsEach {
			name := scope.Name(fmt.Sprintf("b-p%d-%d", writer, n))
			if m, err := source.Manifest(t.Context(), name); err != nil || !strings.HasPrefix(m.Record.Branch, string(name)) {
				t.Errorf("%s: record %+v, %v", name, m.Record, err)
			}
		}
	}
	if m, err := source.Manifest(t.Context(), "b-shared"); err != nil || len(m.Layers) != 1 {
		t.Errorf("the scope that all have written: %+v, %v", m, err)
	}
}

const exportsEach = 10

// exportMany makes several exports at once, each into its own scope and into one that all writers
// share. It also runs in other processes.
func exportMany(ctx context.Context, dir, writer string) error {
	store := localStore(dir)
	errs := make([]error, exportsEach)
	var wg sync.WaitGroup
	for n := range exportsEach {
		wg.Go(func() { errs[n] = export(ctx, store, fmt.Sprintf("b-%s-%d", writer, n)) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// localStore is a store for processes that have no test.
func localStore(dir string) backends.Store {
	caches, _ := testkit.Resolve(cachespec.Environment{}, "type=local,reset=true,dest="+dir)
	return backends.Open(caches, nil)[0].(backends.GatewayWritten).Destination()
}

func export(ctx context.Context, store backends.Store, name string) error {
	for _, n := range []string{name, "b-shared"} {
		raw, err := json.Marshal(ocispecs.Manifest{MediaType: imageManifest, Layers: []ocispecs.Descriptor{{
			MediaType: ocispecs.MediaTypeImageLayer, Digest: digest.FromString(name), Size: int64(len(name)),
		}}})
		if err != nil {
			return err
		}
		m, err := backends.ParseManifest(raw, "")
		if err == nil {
			m, err = m.WithRecord(backends.Record{Branch: name})
		}
		if err == nil {
			err = store.Put(ctx, m.Layers[0], strings.NewReader(name))
		}
		if err == nil {
			err = store.PutManifest(ctx, scope.Name(n), m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func TestLayoutLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, c := local(t, dir, ""), newCache(t, imageManifest, "one")
	c.put(t, store)
	lock := flock.New(filepath.Join(dir, "index.json.lock"))
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := store.PutManifest(ctx, "b-main", c.Manifest); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}
	if _, err := store.Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
		t.Errorf("the scope without the lock: %v", err)
	}
	done := make(chan error)
	go func() { done <- store.PutManifest(t.Context(), "b-main", c.Manifest) }()
	select {
	case err := <-done:
		t.Errorf("it did not wait: %v", err)
		return
	case <-ctx.Done():
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// BuildKit's client writes the index of its local cache with the package ociindex.
func TestLayoutIndexOfBuildKit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, ours, theirs := local(t, dir, ""), newCache(t, imageManifest, "one"), newCache(t, imageIndex, "two")
	for _, c := range []cache{ours, theirs} {
		c.put(t, store)
	}
	native := ociindex.NewStoreIndex(dir)
	if err := store.Put(t.Context(), theirs.Descriptor(), bytes.NewReader(theirs.Raw)); err != nil {
		t.Fatal(err)
	}
	if err := native.Put(theirs.Descriptor(), ociindex.Tag("b-main")); err != nil {
		t.Fatal(err)
	}
	if m, err := store.Manifest(t.Context(), "b-main"); err != nil || !bytes.Equal(m.Raw, theirs.Raw) {
		t.Errorf("the scope that BuildKit wrote: %s, %v", m.Raw, err)
	}
	if err := store.PutManifest(t.Context(), "b-feature", ours.Manifest); err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]cache{"b-main": theirs, "b-feature": ours} {
		if desc, err := native.Get(tag); err != nil || desc == nil || desc.Digest != want.Descriptor().Digest {
			t.Errorf("BuildKit finds %v under %s, %v", desc, tag, err)
		}
	}
	if err := store.PutManifest(t.Context(), "b-main", ours.Manifest); err != nil {
		t.Fatal(err)
	}
	if index, err := native.Read(); err != nil || len(index.Manifests) != 2 || index.SchemaVersion != 2 || index.MediaType != imageIndex {
		t.Errorf("index %+v, %v", index, err)
	}
}

func TestLayoutFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		damage func(dir, manifest string) error
		state  string
	}{
		{"none", func(dir, manifest string) error { return nil }, loaded},
		{"directory gone", func(dir, manifest string) error { return os.RemoveAll(dir) }, absent},
		{"index gone", func(dir, manifest string) error { return os.Remove(filepath.Join(dir, "index.json")) }, absent},
		{"index damaged", func(dir, manifest string) error {
			return os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[`), 0o644)
		}, failed},
		{"index empty", func(dir, manifest string) error { return os.Truncate(filepath.Join(dir, "index.json"), 0) }, failed},
		{"index without a digest", func(dir, manifest string) error {
			return os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[{"digest":"../../etc/passwd","annotations":{"org.opencontainers.image.ref.name":"b-main"}}]}`), 0o644)
		}, failed},
		{"index unreadable", func(dir, manifest string) error {
			index := filepath.Join(dir, "index.json")
			return errors.Join(os.Remove(index), os.Mkdir(index, 0o755))
		}, failed},
		{"directory is a file", func(dir, manifest string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o644))
		}, failed},
		{"manifest gone", func(dir, manifest string) error { return os.Remove(manifest) }, failed},
		{"manifest damaged", func(dir, manifest string) error { return os.WriteFile(manifest, []byte("{}"), 0o644) }, failed},
		{"another manifest", func(dir, manifest string) error {
			raw, err := os.ReadFile(manifest)
			return errors.Join(err, os.WriteFile(manifest, append(raw, '\n'), 0o644))
		}, failed},
		{"layer gone", func(dir, manifest string) error { return os.Remove(blobPath(dir, digest.FromString("one"))) }, failed},
		{"layer truncated", func(dir, manifest string) error { return os.Truncate(blobPath(dir, digest.FromString("one")), 1) }, failed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "cache")
			store, c := local(t, dir, ""), newCache(t, imageManifest, "one")
			c.put(t, store)
			if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
				t.Fatal(err)
			}
			if err := test.damage(dir, blobPath(dir, c.Descriptor().Digest)); err != nil {
				t.Fatal(err)
			}
			readCache := backend(t, cachespec.Environment{}, "type=local,dest="+dir)
			s := verified(t.Context(), []backends.Backend{readCache}, scope.Plan{Read: []scope.Source{{Name: "b-main"}}}, time.Minute)[0]
			if outcome(s) != test.state {
				t.Errorf("%s: %v", outcome(s), s.Err)
			}
		})
	}
}

func blobPath(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
}
