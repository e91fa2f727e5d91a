package checks

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/ci"
)

// tables are the names that only the rooms with their table may compare with. Every other room asks
// the table's entry, so adding an entry changes no other room.
var tables = []struct {
	what  string
	names []string
	rooms []string
}{
	{"CI", ci.Names(), []string{"internal/ci"}},
	{"cache", caches(false), cacheRooms},
	// These two have other meanings too: types of outputs (inputs), a table of TOML (builderspec),
	// an input (login), a platform (syntax), and a type of imports in BuildKit (solve).
	{"cache", caches(true), append([]string{"inputs", "internal/builderspec", "internal/login", "internal/syntax", "internal/solve"}, cacheRooms...)},
}

// cacheRooms have the tables of caches: their attributes, the functions that open them, and the
// servers for tests.
var cacheRooms = []string{"internal/cachespec", "backends", "internal/testkit"}

// caches are the types of caches whose names have other meanings too or, unless ambiguous, all the
// others.
func caches(ambiguous bool) []string {
	return slices.DeleteFunc(cachespec.Types(cachespec.To), func(name string) bool {
		return (name == "registry" || name == "local") != ambiguous
	})
}

func TestNamesOfTables(t *testing.T) {
	t.Parallel()
	files := token.NewFileSet()
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range compared(file) {
				for _, table := range tables {
					if slices.Contains(table.names, text(found)) && !slices.Contains(table.rooms, p.room()) {
						t.Errorf("%s: the %s %s is compared outside %q", files.Position(found.Pos()), table.what, found.Value, table.rooms)
					}
				}
			}
		}
	}
}

// compared are the string literals that a file compares values with: in a case, in a comparison, as
// a key, or in what is searched.
func compared(file *ast.File) []*ast.BasicLit {
	var all []*ast.BasicLit
	add := func(expressions ...ast.Expr) {
		for _, e := range expressions {
			if literal, ok := e.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				all = append(all, literal)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CaseClause:
			add(n.List...)
		case *ast.BinaryExpr:
			if n.Op == token.EQL || n.Op == token.NEQ {
				add(n.X, n.Y)
			}
		case *ast.IndexExpr:
			add(n.Index)
		case *ast.CompositeLit:
			if _, ok := n.Type.(*ast.MapType); ok {
				for _, element := range n.Elts {
					if pair, ok := element.(*ast.KeyValueExpr); ok {
						add(pair.Key)
					}
				}
			}
		case *ast.CallExpr:
			if !searches(n.Fun) {
				return true
			}
			add(n.Args...)
			for _, argument := range n.Args {
				if list, ok := argument.(*ast.CompositeLit); ok {
					add(list.Elts...)
				}
			}
		}
		return true
	})
	return all
}

// searches tells whether a function compares its arguments, or the elements of one, with another.
func searches(function ast.Expr) bool {
	if generic, ok := function.(*ast.IndexExpr); ok {
		function = generic.X
	}
	selector, ok := function.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	of, ok := selector.X.(*ast.Ident)
	return ok && slices.Contains([]string{"slices.Contains", "slices.Index", "strings.EqualFold", "strings.Compare"}, of.Name+"."+selector.Sel.Name)
}

// text is the value of a string literal.
func text(literal *ast.BasicLit) string {
	value, _ := strconv.Unquote(literal.Value) // the parser has accepted it
	return value
}

// The test finds every form of a comparison, and only these.
func TestCompared(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
func f(s string, m map[string]int) {
	switch s { case "1", "2": }
	_ = s == "3" || "4" != s
	_ = slices.Contains([]string{"5", "6"}, s) || slices.Contains(all, "7") || strings.EqualFold(s, "8")
	_ = map[string]bool{"9": true}[s]
	_ = m["10"]
	print("no", []string{"no"}, s + "no", T{"no": 1}, map[string]string{s: "no"})
}`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, literal := range compared(file) {
		got = append(got, text(literal))
	}
	slices.SortFunc(got, func(a, b string) int { return len(a) - len(b) })
	if want := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
