package backends_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/buildkit/client/ociindex"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

// FuzzLayout damages the index of a local cache. What is read from it is whole, the next export
// mends it, and what could be read of other scopes stays.
func FuzzLayout(f *testing.F) {
	dir := f.TempDir()
	store := local(f, dir, "")
	for _, n := range []scope.Name{"b-main", "b-old"} {
		c := newCache(f, imageManifest, "one", "two")
		c.put(f, store)
		if err := store.PutManifest(f.Context(), n, c.Manifest); err != nil {
			f.Fatal(err)
		}
	}
	index := filepath.Join(dir, "index.json")
	whole, err := os.ReadFile(index)
	if err != nil {
		f.Fatal(err)
	}
	for _, raw := range [][]byte{
		whole, whole[:len(whole)/2], whole[:len(whole)-2], nil, []byte("{}"), []byte("[]"), []byte("null"), []byte(`{"manifests":null}`), []byte(`{"manifests":[{"digest":"x"},null]}`),
		[]byte(`{"schemaVersion":3,"mediaType":7,"manifests":[]}`), bytes.ReplaceAll(whole, []byte("sha256"), []byte("sha512")), bytes.ReplaceAll(whole, []byte("b-old"), []byte("b-main")),
		[]byte(`{"manifests":[{"digest":"../../x","annotations":{"org.opencontainers.image.ref.name":"b-main"}}]}`), append(bytes.Clone(whole), '}'),
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(index, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		source := localSource(t, dir)
		before := map[scope.Name]digest.Digest{}
		for _, n := range []scope.Name{"b-main", "b-old", "b-new"} {
			m, err := source.Manifest(t.Context(), n)
			if err == nil {
				before[n] = m.Descriptor().Digest
			}
			if err == nil && len(m.Layers) != 2 {
				t.Errorf("%s: %+v", n, m)
			}
		}
		c := newCache(t, imageManifest, "one", "two")
		if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
			t.Fatalf("an index %q is not mended: %v", raw, err)
		}
		delete(before, "b-main")
		for n, d := range before {
			if m, err := source.Manifest(t.Context(), n); err != nil || m.Descriptor().Digest != d {
				t.Errorf("%s of the index %q is lost: %v", n, raw, err)
			}
		}
		if m, err := source.Manifest(t.Context(), "b-main"); err != nil || !bytes.Equal(m.Raw, c.Raw) {
			t.Errorf("the scope that was written: %v", err)
		}
		if _, err := source.Manifest(t.Context(), "b-none"); !errors.Is(err, backends.ErrAbsent) {
			t.Errorf("another scope: %v", err)
		}
		// BuildKit's own reader finds the cache.
		if desc, err := ociindex.NewStoreIndex(dir).Get("b-main"); err != nil || desc == nil || desc.Digest != c.Descriptor().Digest {
			t.Errorf("BuildKit finds %v, %v", desc, err)
		}
	})
}
