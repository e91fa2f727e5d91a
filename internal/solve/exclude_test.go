package solve

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestWithParents: a directory is left out together with a parent that has no other content.
func TestWithParents(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		files   []string
		exclude string
		want    string
	}{
		{"in the context itself", []string{"cache/x"}, "cache", "cache"},
		{"alone", []string{"a/b/cache/x"}, "a/b/cache", "a/b/cache a/b a"},
		{"before it exists", nil, "a/b/cache", "a/b/cache a/b a"},
		{"next to a file", []string{"a/mine", "a/b/cache/x"}, "a/b/cache", "a/b/cache a/b"},
		{"next to a file, before it exists", []string{"a/mine"}, "a/b/cache", "a/b/cache a/b"},
		{"two", []string{"a/one/x", "a/two/x"}, "a/one a/two", "a/one a/two a"},
		{"two, one of them next to a file", []string{"a/one/x", "a/b/two/x", "a/b/mine"}, "a/one a/b/two", "a/one a/b/two"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, file := range test.files {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var exclude, want []string
			for _, name := range strings.Fields(test.exclude) {
				exclude = append(exclude, filepath.Join(dir, name))
			}
			for _, name := range strings.Fields(test.want) {
				want = append(want, filepath.Join(dir, name))
			}
			if got := withParents(dir, exclude); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
