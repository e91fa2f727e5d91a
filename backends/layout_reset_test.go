package backends_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/buildkit/client/ociindex"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/scope"
)

// age makes a file older than any export in progress.
func age(t testing.TB, path string) {
	t.Helper()
	old := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

// ageAll makes every blob old.
func ageAll(t testing.TB, dir string) {
	t.Helper()
	for _, name := range files(t, dir, "blobs/sha256") {
		age(t, filepath.Join(dir, "blobs", "sha256", name))
	}
}

func there(t testing.TB, dir string, contents ...string) {
	t.Helper()
	for _, content := range contents {
		if _, err := os.Stat(blobPath(dir, digest.FromString(content))); err != nil {
			t.Errorf("%q is gone: %v", content, err)
		}
	}
}

func gone(t testing.TB, dir string, contents ...string) {
	t.Helper()
	for _, content := range contents {
		if _, err := os.Stat(blobPath(dir, digest.FromString(content))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q remains: %v", content, err)
		}
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := local(t, dir, ",reset=true")
	write := func(name string, c cache) {
		t.Helper()
		c.put(t, store)
		if err := store.PutManifest(t.Context(), scope.Name(name), c.Manifest); err != nil {
			t.Fatal(err)
		}
	}
	other := newCache(t, imageIndex, "other scope's", "shared")
	write("b-other", other)
	write("b-main", newCache(t, imageManifest, "first", "shared"))
	prefixed := newCache(t, dockerList, "other prefix's")
	prefixed.put(t, store)
	if err := local(t, dir, ",tag=web").PutManifest(t.Context(), "b-main", prefixed.Manifest); err != nil {
		t.Fatal(err)
	}
	ageAll(t, dir)
	newCache(t, imageManifest, "young").put(t, store)
	for _, upload := range []string{"warmlayer-old", "warmlayer-young"} {
		if err := os.WriteFile(filepath.Join(dir, "ingest", upload), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	age(t, filepath.Join(dir, "ingest", "warmlayer-old"))
	upload := flock.New(filepath.Join(dir, "ingest", "warmlayer-young"))
	if ok, err := upload.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}

	write("b-main", newCache(t, imageManifest, "second"))

	there(t, dir, "other scope's", "shared", "other prefix's", "young", "second", string(other.Raw), string(prefixed.Raw))
	gone(t, dir, "first")
	if left := files(t, dir, "ingest"); !slices.Equal(left, []string{"warmlayer-young"}) {
		t.Errorf("uploads %v", left)
	}
}

func TestNoReset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := local(t, dir, "")
	for _, content := range []string{"first", "second"} {
		c := newCache(t, imageManifest, content)
		c.put(t, store)
		if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
			t.Fatal(err)
		}
		ageAll(t, dir)
	}
	there(t, dir, "first", "second")
}

// An export has found an old blob in the store, so it will not send it. The reset of another export
// must keep the blob.
func TestResetBesideAnExport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCache(t, imageManifest, "old")
	c.put(t, local(t, dir, ""))
	ageAll(t, dir)

	exporter := local(t, dir, "")
	if sizes, err := exporter.Stat(t.Context(), digests(c)); err != nil || len(sizes) != 2 {
		t.Fatal(sizes, err)
	}
	other, resetting := newCache(t, imageManifest, "other"), local(t, dir, ",reset=true")
	other.put(t, resetting)
	if err := resetting.PutManifest(t.Context(), "b-other", other.Manifest); err != nil {
		t.Fatal(err)
	}
	if err := exporter.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Error(err)
	}
	there(t, dir, "old", "other")
}

// A blob stays old when a build that only reads looks it up.
func TestResetBesideAReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, c, other := local(t, dir, ",reset=true"), newCache(t, imageManifest, "old"), newCache(t, imageManifest, "new")
	c.put(t, store)
	ageAll(t, dir)
	if sizes, err := localSource(t, dir).Stat(t.Context(), digests(c)); err != nil || len(sizes) != 2 {
		t.Fatal(sizes, err)
	}
	other.put(t, store)
	if err := store.PutManifest(t.Context(), "b-main", other.Manifest); err != nil {
		t.Fatal(err)
	}
	gone(t, dir, "old")
}

func digests(c cache) []digest.Digest {
	var all []digest.Digest
	for _, b := range c.Blobs() {
		all = append(all, b.Digest)
	}
	return all
}

// The directory may contain images too, also images for several platforms.
func TestResetSparesImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, image := local(t, dir, ",reset=true"), cache{blobs: map[digest.Digest][]byte{}}
	child := manifestText(t, imageManifest,
		image.add(ocispecs.MediaTypeImageConfig, []byte("image config")),
		[]ocispecs.Descriptor{image.add(ocispecs.MediaTypeImageLayer, []byte("image layer"))})
	index := encode(t, ocispecs.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imageIndex,
		Manifests: []ocispecs.Descriptor{image.add(imageManifest, child)},
	})
	addToIndex(t, dir, image.add(imageIndex, index))
	for d, blob := range image.blobs {
		if err := store.Put(t.Context(), ocispecs.Descriptor{Digest: d, Size: int64(len(blob))}, bytes.NewReader(blob)); err != nil {
			t.Fatal(err)
		}
	}
	ageAll(t, dir)
	reset(t, dir)
	there(t, dir, "image config", "image layer", string(child), string(index))
}

// Broken entries of the index do not make an export fail.
func TestResetBesideBrokenScopes(t *testing.T) {
	t.Parallel()
	for name, desc := range map[string]ocispecs.Descriptor{
		"manifest gone":      {MediaType: imageManifest, Digest: digest.FromString("gone"), Size: 4},
		"manifest damaged":   {MediaType: imageManifest, Digest: digest.FromString("damaged"), Size: 7},
		"no digest":          {MediaType: imageManifest},
		"invalid digest":     {MediaType: imageManifest, Digest: "../../etc/passwd"},
		"unknown media type": {MediaType: "application/vnd.example", Digest: digest.FromString("damaged"), Size: 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			damaged := ocispecs.Descriptor{Digest: digest.FromString("damaged"), Size: 7}
			if err := local(t, dir, "").Put(t.Context(), damaged, bytes.NewReader([]byte("damaged"))); err != nil {
				t.Fatal(err)
			}
			addToIndex(t, dir, desc)
			reset(t, dir)
		})
	}
}

// reset exports to a scope with reset=true, which keeps everything that the index names.
func reset(t testing.TB, dir string) {
	t.Helper()
	store, c := local(t, dir, ",reset=true"), newCache(t, imageManifest, "new")
	newCache(t, imageManifest, "unnamed").put(t, store)
	age(t, blobPath(dir, digest.FromString("unnamed")))
	c.put(t, store)
	if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Error(err)
	}
	there(t, dir, "new")
	gone(t, dir, "unnamed")
}

// addToIndex adds the entry of another tool.
func addToIndex(t testing.TB, dir string, desc ocispecs.Descriptor) {
	t.Helper()
	if err := ociindex.NewStoreIndex(dir).Put(desc, ociindex.Tag("other-tool")); err != nil {
		t.Fatal(err)
	}
}
