package layout_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/layout"
	"github.com/warmlayer/warmlayer/internal/storage"
)

// written is a directory with the blobs "one" and "two" and a manifest of them with the tag b-main.
// The manifest says that "one" has size bytes.
func written(t *testing.T, size int64) (dir string, m layout.Manifest) {
	t.Helper()
	dir = t.TempDir()
	l := &layout.Layout{Dir: dir, Writes: true}
	var layers []ocispecs.Descriptor
	for _, content := range []string{"one", "two"} {
		desc := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayer, Digest: digest.FromString(content), Size: 3}
		if err := l.Put(t.Context(), desc, bytes.NewReader([]byte(content))); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, desc)
	}
	blobs := append([]ocispecs.Descriptor{}, layers...)
	layers[0].Size = size
	raw, err := json.Marshal(ocispecs.Manifest{MediaType: ocispecs.MediaTypeImageManifest, Layers: layers})
	if err != nil {
		t.Fatal(err)
	}
	m = layout.Manifest{Raw: raw, MediaType: ocispecs.MediaTypeImageManifest}
	if err := l.PutManifest(t.Context(), "b-main", storage.AnyVersion, m, blobs); err != nil {
		t.Fatal(err)
	}
	return dir, m
}

// TestMend: what is certainly damaged is removed, and nothing else.
func TestMend(t *testing.T) {
	t.Parallel()
	blob := func(dir string, d digest.Digest) string { return filepath.Join(dir, "blobs", "sha256", d.Encoded()) }
	one := digest.FromString("one")
	cut := func(d digest.Digest) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Truncate(blob(dir, d), 2); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, m := written(t, 3)
	document := digest.FromBytes(m.Raw)
	for name, test := range map[string]struct {
		says     int64 // the manifest about the size of one
		damage   func(*testing.T, string)
		gone     digest.Digest // "": nothing
		suspects []digest.Digest
	}{
		"nothing":                  {3, func(*testing.T, string) {}, "", nil},
		"a manifest that is wrong": {17, func(*testing.T, string) {}, "", nil},
		"a layer":                  {3, cut(one), one, nil},
		"a manifest":               {3, cut(document), document, nil},
		"a layer that is missing":  {3, func(t *testing.T, dir string) { _ = os.Remove(blob(dir, one)) }, one, nil},
		"wrong bytes of a layer":   {3, func(t *testing.T, dir string) { _ = os.WriteFile(blob(dir, one), []byte("eno"), 0o600) }, "", nil},
		"wrong bytes of a suspect": {3, func(t *testing.T, dir string) { _ = os.WriteFile(blob(dir, one), []byte("eno"), 0o600) }, one, []digest.Digest{one, digest.FromString("two")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, m := written(t, test.says)
			test.damage(t, dir)
			if err := (&layout.Layout{Dir: dir}).Mend(t.Context(), test.suspects); err != nil {
				t.Fatal(err)
			}
			for _, d := range []digest.Digest{one, digest.FromString("two"), digest.FromBytes(m.Raw)} {
				if _, err := os.Stat(blob(dir, d)); os.IsNotExist(err) != (d == test.gone) {
					t.Errorf("%s: %v", d, err)
				}
			}
		})
	}
}

// TestMendNothing: a directory that is not there is not made.
func TestMendNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	if err := (&layout.Layout{Dir: dir}).Mend(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it was made: %v", err)
	}
}
