package checks

import (
	"cmp"
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

// room is one package of the program, and the other rooms that it may import: data flows one way.
type room struct {
	path, knows string
	imports     []string
}

// rooms are all of them, each after those that it imports. ARCHITECTURE.md's picture and table
// are made of this: go test ./internal/checks -update.
var rooms = []room{
	{"internal/syntax", "how a user's text is taken apart: lists, CSV, single values; problems and their hints", nil},
	{"internal/builderspec", "what may be said about builders: addresses, buildx's builders, certificates, settings of a managed builder", []string{"internal/syntax"}},
	{"internal/cachespec", "the table of cache types: attributes, defaults, and what follows from a line: label, identity, directories, credentials", []string{"internal/syntax"}},
	{"inputs", "the table of inputs; flags and environments to typed, validated values", []string{"internal/syntax", "internal/builderspec", "internal/cachespec"}},
	{"scope", "the facts of a build; who reads and who writes; names of scopes (standard library only)", nil},
	{"internal/ci", "the table of CIs: what each says of a build, and how its log and pages are written to", []string{"internal/syntax", "scope"}},
	{"internal/login", "the credentials of each registry", []string{"internal/syntax", "internal/ci"}},
	{"backends", "the six caches: BuildKit's entries for a plan; the stores; reading scopes", []string{"internal/syntax", "internal/cachespec", "scope"}},
	{"internal/cachegraph", "the merge of BuildKit's cache configs (computes only)", nil},
	{"internal/gateway", "a registry on loopback in front of the stores", []string{"backends", "scope"}},
	{"internal/cacheplan", "what BuildKit imports and exports; the outcome of each cache source", []string{"internal/cachespec", "backends", "scope", "internal/cachegraph", "internal/gateway"}},
	{"internal/builder", "a BuildKit: connects to a remote one, or starts a managed one as a process or a container", []string{"internal/builderspec"}},
	{"internal/solve", "everything that BuildKit is asked for", []string{"internal/syntax", "inputs", "backends", "internal/cacheplan", "internal/builder"}},
	{"internal/report", "what came of a build, in every form; redaction", []string{"internal/syntax", "scope", "internal/ci", "backends", "internal/cacheplan", "internal/solve"}},
	{"internal/step", "one run: what the inputs mean together, and the line from the builder to the report", []string{"internal/syntax", "internal/cachespec", "inputs", "scope", "internal/ci", "backends", "internal/login", "internal/gateway", "internal/cacheplan", "internal/builder", "internal/solve", "internal/report"}},
	{"main", "the story on one screen; the commands", []string{"internal/syntax", "inputs", "internal/ci", "internal/builder", "internal/report", "internal/step"}},
}

// tools are packages beside the program: they generate files, or serve tests.
var tools = []room{
	{"inputs/generate", "writes what is generated from the table of inputs", []string{"internal/syntax", "inputs"}},
	{"internal/report/picture", "shows a summary as GitHub's page does", nil},
	{"internal/testkit", "real servers, daemons and runs of the program, for tests", []string{"internal/syntax", "internal/cachespec", "scope", "backends"}},
	{"internal/testkit/ghaserver", "GitHub's cache service for a shell", []string{"internal/testkit"}},
}

// goPackage is what the tests use of go list's description of a package.
type goPackage struct {
	ImportPath, Dir           string
	GoFiles, Imports          []string
	TestGoFiles, XTestGoFiles []string
}

// room is the package's folder in the module; "main" is the module's root.
func (p goPackage) room() string {
	return cmp.Or(strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/"), "main")
}

// packages are those of the module that are more than tests.
func packages(t *testing.T) []goPackage {
	t.Helper()
	return slices.DeleteFunc(allPackages(t), func(p goPackage) bool { return len(p.GoFiles) == 0 })
}

// allPackages are those of the module.
func allPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,TestGoFiles,XTestGoFiles", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// Each package imports the rooms that its line names, all of them and no others.
func TestImportLine(t *testing.T) {
	t.Parallel()
	all, seen := slices.Concat(rooms, tools), map[string]bool{}
	for _, p := range packages(t) {
		i := slices.IndexFunc(all, func(r room) bool { return r.path == p.room() })
		if i < 0 {
			t.Errorf("%s: no line says what it may import", p.ImportPath)
			continue
		}
		seen[p.room()] = true
		var imported []string
		for _, path := range p.Imports {
			if path, ours := strings.CutPrefix(path, module+"/"); ours {
				imported = append(imported, path)
			}
			if first, _, _ := strings.Cut(path, "/"); p.room() == "scope" && strings.Contains(first, ".") {
				t.Errorf("%s must not import %s, which is not the standard library's", p.ImportPath, path)
			}
		}
		allowed := slices.Sorted(slices.Values(all[i].imports))
		if slices.Sort(imported); !slices.Equal(imported, allowed) {
			t.Errorf("%s imports %v; its line says %v", p.ImportPath, imported, allowed)
		}
		for _, path := range allowed {
			if !slices.ContainsFunc(all[:i], func(r room) bool { return r.path == path }) {
				t.Errorf("the line of %s stands before that of %s, which it imports", p.room(), path)
			}
		}
	}
	for _, r := range all {
		if !seen[r.path] {
			t.Errorf("there is no package %s", r.path)
		}
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
	if !touching["main"] {
		t.Error("the program itself seems not to: nothing was looked at")
	}
}
