package checks

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/warmlayer/warmlayer"

// rooms says which other rooms each one may import: data flows one way.
var rooms = map[string][]string{
	"internal/syntax":      {},
	"internal/builderspec": {"internal/syntax"},
	"internal/cachespec":   {"internal/syntax"},
	"inputs":               {"internal/syntax", "internal/builderspec", "internal/cachespec"},
	"scope":                {},
	"internal/ci":          {"internal/syntax", "scope"},
	"backends":             {"internal/syntax", "internal/cachespec", "scope"},
	"internal/login":       {"internal/syntax", "internal/ci"},
	"internal/cachegraph":  {},
	"internal/gateway":     {"backends", "scope"}, // a registry; it knows no plan
	"internal/cacheplan":   {"internal/cachespec", "backends", "scope", "internal/cachegraph", "internal/gateway"},
	"internal/builder":     {"internal/builderspec"},
	"internal/solve":       {"internal/syntax", "inputs", "backends", "internal/cacheplan", "internal/builder"},
	"internal/report":      {"internal/syntax", "inputs", "scope", "internal/ci", "backends", "internal/cacheplan", "internal/solve"},
	"internal/step":        {"internal/syntax", "internal/cachespec", "inputs", "scope", "internal/ci", "backends", "internal/login", "internal/gateway", "internal/cacheplan", "internal/builder", "internal/solve", "internal/report"},
	"":                     {"internal/syntax", "inputs", "internal/ci", "internal/builder", "internal/report", "internal/step"},

	"inputs/generate":            {"internal/syntax", "inputs"},
	"internal/report/picture":    {},
	"internal/testkit":           {"internal/syntax", "internal/cachespec", "scope", "backends"}, // for tests alone
	"internal/testkit/ghaserver": {"internal/testkit"},
}

// goPackage is what the tests use of go list's description of a package.
type goPackage struct {
	ImportPath, Dir  string
	GoFiles, Imports []string
}

// room is the package's folder in the module, "" for the program itself.
func (p goPackage) room() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// packages are those of the module, without their tests.
func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			all = append(all, p)
		}
	}
	return all
}

func TestImportLine(t *testing.T) {
	t.Parallel()
	found := 0
	for _, p := range packages(t) {
		allowed, known := rooms[p.room()]
		if !known {
			t.Errorf("%s: no rule says what it may import", p.ImportPath)
			continue
		}
		found++
		for _, path := range p.Imports {
			room, ours := strings.CutPrefix(path, module+"/")
			if ours && !slices.Contains(allowed, room) {
				t.Errorf("%s must not import %s", p.ImportPath, path)
			}
			if first, _, _ := strings.Cut(path, "/"); p.room() == "scope" && strings.Contains(first, ".") {
				t.Errorf("%s must not import %s, which is not the standard library's", p.ImportPath, path)
			}
		}
	}
	if found != len(rooms) {
		t.Errorf("%d of %d rooms found", found, len(rooms))
	}
}

// pure are the rooms that compute and do nothing else: no I/O, and no waiting.
var pure = []string{"internal/cachegraph"}

func TestPureRooms(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, path := range p.Imports {
			if slices.Contains(pure, p.room()) && slices.Contains([]string{"context", "io", "net", "net/http", "os", "sync"}, path) {
				t.Errorf("%s must not import %s", p.ImportPath, path)
			}
		}
	}
}

// process are the names of package os that reach around what a function was handed.
var process = []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Args", "Stdin", "Stdout", "Stderr", "Exit"}

// Only a main package touches its process; all others use what they are handed.
func TestOnlyMainTouchesTheProcess(t *testing.T) {
	t.Parallel()
	files := token.NewFileSet()
	touching := map[string]bool{}
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				selector, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if of, ok := selector.X.(*ast.Ident); !ok || of.Name != "os" || !slices.Contains(process, selector.Sel.Name) {
					return true
				}
				touching[p.room()] = true
				if file.Name.Name != "main" && p.room() != "internal/testkit" {
					t.Errorf("%s: os.%s", files.Position(n.Pos()), selector.Sel.Name)
				}
				return true
			})
		}
	}
	if !touching[""] {
		t.Error("the program itself seems not to: nothing was looked at")
	}
}
