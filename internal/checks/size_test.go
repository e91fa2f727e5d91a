package checks

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"
)

// A function fits on a screen, a file has one subject, and a room can be read in a day. The table
// of a test may be longer than a function, but not longer than a file.
const (
	longestFunction = 60   // lines, without tests
	longestFile     = 400  // lines
	largestRoom     = 3500 // lines, without tests
)

func TestSizes(t *testing.T) {
	t.Parallel()
	functions := 0
	for _, p := range allPackages(t) {
		room := 0
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			lines := set.File(file.Pos()).LineCount() - 1
			if lines > longestFile {
				t.Errorf("%s: %s has %d lines", p.ImportPath, name, lines)
			}
			if !slices.Contains(p.GoFiles, name) {
				continue
			}
			room += lines
			for _, d := range file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				functions++
				if n := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; n > longestFunction {
					t.Errorf("%s: %s has %d lines", set.Position(f.Pos()), f.Name.Name, n)
				}
			}
		}
		if room > largestRoom {
			t.Errorf("%s has %d lines", p.ImportPath, room)
		}
	}
	if functions == 0 {
		t.Error("no function was checked")
	}
}
