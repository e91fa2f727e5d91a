package backends_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/ociindex"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

// A damaged index is a failed source, and the next export repairs it: the scope that it
// writes is there, and so are the scopes that the damage has left whole.
func TestLayoutDamagedIndex(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		damage func(index string) string
		kept   []scope.Name // of b-0, b-1 and b-2
	}{
		"cut off in the last entry": {func(s string) string { return s[:len(s)-20] }, []scope.Name{"b-0", "b-1"}},
		"cut off in the first one":  {func(s string) string { return s[:strings.Index(s, "digest")] }, nil},
		"cut off after 1 byte":      {func(s string) string { return s[:1] }, nil},
		"empty":                     {func(string) string { return "" }, nil},
		"zeros":                     {func(s string) string { return strings.Repeat("\x00", len(s)) }, nil},
		"bytes after its end":       {func(s string) string { return s + `ame":"b-2"}}]}` }, []scope.Name{"b-0", "b-1", "b-2"}},
		"another document":          {func(string) string { return `["b-0"]` }, nil},
		"no list of manifests":      {func(string) string { return `{"schemaVersion":2,"manifests":"none"}` }, nil},
		"an entry of another form": {func(s string) string {
			return strings.Replace(s, `"manifests":[`, `"manifests":[17,{"digest":"sha256:00","size":1},`, 1)
		}, []scope.Name{"b-0", "b-1", "b-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			store, c := local(t, dir, ""), newCache(t, imageManifest, "one", "two")
			c.put(t, store)
			for i := range 3 {
				putScope(t, store, scope.Name(fmt.Sprint("b-", i)), c)
			}
			path := filepath.Join(dir, "index.json")
			index, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(test.damage(string(index))), 0o600); err != nil {
				t.Fatal(err)
			}
			source := localSource(t, dir)
			if _, err := source.Manifest(t.Context(), "b-0"); err == nil || errors.Is(err, backends.ErrAbsent) || !strings.Contains(err.Error(), "index.json: it is damaged") {
				t.Errorf("read: %v", err)
			}
			putScope(t, store, "b-new", c)
			for _, n := range append(test.kept, "b-new") {
				if _, err := source.Manifest(t.Context(), n); err != nil {
					t.Errorf("%s after the next export: %v", n, err)
				}
			}
			native, err := ociindex.NewStoreIndex(dir).Read()
			if err != nil || len(native.Manifests) != len(test.kept)+1 {
				t.Errorf("for BuildKit: %+v, %v", native, err)
			}
		})
	}
}

// putScope makes a cache, whose blobs are in the store, the named scope's.
func putScope(t testing.TB, store backends.Store, n scope.Name, c cache) {
	t.Helper()
	if err := store.PutManifest(t.Context(), n, c.Manifest); err != nil {
		t.Fatal(err)
	}
}
