package contexthash

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tonistiigi/fsutil"

	"github.com/warmlayer/warmlayer/internal/cachemiss"
)

// opened counts the files that are opened.
type opened struct {
	fsutil.FS
	names []string
}

func (o *opened) Open(path string) (io.ReadCloser, error) {
	o.names = append(o.names, path)
	return o.FS.Open(path)
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func hashes(tree cachemiss.Tree) map[string]string {
	all := map[string]string{}
	for _, e := range tree {
		all[e.Path] = e.Hash
	}
	return all
}

// TestTree: what was sent is not read again, what was not is read in time, and what changed since is read again.
func TestTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{"a": "one", "b": "one", "c": "two", "ignored": "x"} {
		write(t, dir, name, content)
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "hard")); err != nil {
		t.Fatal(err)
	}
	plain, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	from, files := &opened{FS: plain}, New()
	sent, err := files.Watch("context", from).Open("a")
	if err == nil {
		_, err = io.Copy(io.Discard, sent)
	}
	if err != nil {
		t.Fatal(err)
	}
	of := cachemiss.Local{Name: "context", Exclude: []string{"ignored"}}
	none := hashes(files.Tree(t.Context(), of, 0))
	if none["a"] == "" || none["hard"] != none["a"] || none["b"] != "" || len(from.names) != 1 {
		t.Errorf("without time: %v, opened %v", none, from.names)
	}
	all := hashes(files.Tree(t.Context(), of, time.Hour))
	if _, has := all["ignored"]; has || all["a"] != none["a"] || all["b"] != all["a"] || all["c"] == all["a"] || all["c"] == "" || all["link"] == "" {
		t.Errorf("with time: %v", all)
	}
	if len(from.names) != 3 {
		t.Errorf("opened %v", from.names)
	}
	write(t, dir, "c", "other")
	if changed := hashes(files.Tree(t.Context(), of, time.Hour)); changed["c"] == all["c"] || len(from.names) != 4 {
		t.Errorf("after a change: %v, opened %v", changed, from.names)
	}
	if files.Tree(t.Context(), cachemiss.Local{Name: "other"}, time.Hour) != nil {
		t.Error("a directory that is not sent has a tree")
	}
}
