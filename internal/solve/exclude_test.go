package solve

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestWithParents: a parent is left out with what is in it only if nothing else is.
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
		{"not there yet", nil, "a/b/cache", "a/b/cache a/b a"},
		{"beside a file", []string{"a/mine", "a/b/cache/x"}, "a/b/cache", "a/b/cache a/b"},
		{"beside a file from the first build on", []string{"a/mine"}, "a/b/cache", "a/b/cache a/b"},
		{"two", []string{"a/one/x", "a/two/x"}, "a/one a/two", "a/one a/two a"},
		{"two, one beside a file", []string{"a/one/x", "a/b/two/x", "a/b/mine"}, "a/one a/b/two", "a/one a/b/two"},
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
