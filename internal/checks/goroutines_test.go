package checks

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"
)

// Every goroutine of the program begins with "defer crash.Catch()": those of go statements, of
// WaitGroup.Go and errgroup's Go, and of AfterFunc.
func TestGoroutinesCatchPanics(t *testing.T) {
	t.Parallel()
	found := 0
	inspect := func(set *token.FileSet, n ast.Node) bool {
		var body ast.Expr
		switch n := n.(type) {
		case *ast.GoStmt:
			body = n.Call.Fun
		case *ast.CallExpr:
			called, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Go", "AfterFunc"}, called.Sel.Name) || len(n.Args) == 0 {
				return true
			}
			body = n.Args[len(n.Args)-1]
		default:
			return true
		}
		found++
		literal, ok := body.(*ast.FuncLit)
		if !ok || len(literal.Body.List) == 0 || !isCatch(literal.Body.List[0]) {
			t.Errorf("%s: a goroutine does not begin with defer crash.Catch()", set.Position(n.Pos()))
		}
		return true
	}
	for _, p := range packages(t) {
		if !slices.ContainsFunc(rooms, func(r room) bool { return r.path == p.room() }) {
			continue
		}
		for _, name := range p.GoFiles {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool { return inspect(set, n) })
		}
	}
	if found < 40 {
		t.Errorf("%d goroutines found", found)
	}
}

func isCatch(s ast.Stmt) bool {
	d, ok := s.(*ast.DeferStmt)
	if !ok {
		return false
	}
	called, ok := d.Call.Fun.(*ast.SelectorExpr)
	return ok && called.Sel.Name == "Catch"
}
