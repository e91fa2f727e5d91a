package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGeneratedFilesAreFresh(t *testing.T) {
	t.Parallel()
	for _, p := range parts() {
		content, err := os.ReadFile(filepath.Join("../..", p.file))
		if err != nil {
			t.Fatal(err)
		}
		want, err := p.fill(string(content))
		if err != nil {
			t.Fatal(err)
		}
		if string(content) != want {
			t.Errorf("%s is stale between %q and %q: run go generate ./inputs", p.file, p.start, p.end)
		}
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	p := part{"x", "# start", "# end", "new\n"}
	got, err := p.fill("a\n# start\nold\nolder\n  # end\nb\n")
	if want := "a\n# start\nnew\n  # end\nb\n"; err != nil || got != want {
		t.Errorf("filled is %q, %v; want %q", got, err, want)
	}
	for _, content := range []string{"# end\n", "# start\n"} {
		if _, err := p.fill(content); err == nil {
			t.Errorf("%q lacks a marker, and filling it succeeds", content)
		}
	}
}
