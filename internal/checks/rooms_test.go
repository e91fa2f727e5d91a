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

// room is one package of the program, with the other rooms that it may import: data flows in one
// direction.
type room struct {
	path, knows string
	imports     []string
}

// rooms are all rooms, each after those that it imports. ARCHITECTURE.md's picture and table are
// generated from this: go test ./internal/checks -update.
var rooms = []room{
	{"internal/syntax", "parsing of a user's text: lists, CSV, single values; problems with their hints", nil},
	{"internal/crash", "ends the program when a goroutine panics", nil},
	{"internal/waiting", "ends with its context what may block for ever, such as files of a server that does not answer", []string{"internal/crash"}},
	{"internal/timing", "where the time of a run went, and its critical path (computes only)", nil},
	{"internal/tracing", "the trace of a run, with BuildKit's spans: sends it to a collector", []string{"internal/timing"}},
	{"internal/builderspec", "the settings of builders: addresses, buildx's builders, certificates, options of a managed builder", []string{"internal/syntax"}},
	{"internal/cachespec", "the table of cache types: attributes, defaults, and what follows from a line: label, identity, directories, credentials", []string{"internal/syntax"}},
	{"internal/settings", "the texts of inputs, from flags, variables and JSON", []string{"internal/syntax"}},
	{"internal/packed", "reads the programs that this one contains, compressed", nil},
	{"internal/bakefile", "reads bake files, with a program that has docker buildx's package for them", []string{"internal/packed", "internal/syntax"}},
	{"inputs", "the table of inputs; typed, validated values from flags and environments", []string{"internal/syntax", "internal/settings", "internal/bakefile", "internal/builderspec", "internal/cachespec"}},
	{"scope", "the facts of a build; which scopes it reads and writes; their names (standard library only)", nil},
	{"internal/ci", "the table of CIs: the facts that each states, and how to write to its log and pages", []string{"internal/syntax", "scope"}},
	{"internal/storage", "what the clients of stores share: certain absence, verified content, the answers of services", nil},
	{"internal/hosted", "the APIs of services that host registries: removes tags, and logs in to Amazon ECR", []string{"internal/storage"}},
	{"internal/login", "the credentials of each registry", []string{"internal/syntax", "internal/ci", "internal/hosted"}},
	{"internal/cachegraph", "the merge of BuildKit's cache configs, and their bounds (computes only)", nil},
	{"internal/layout", "an OCI layout: a directory with blobs and tags that many processes share", []string{"internal/waiting", "internal/storage"}},
	{"internal/s3service", "a client of S3 and servers like it: objects of a bucket", []string{"internal/waiting", "internal/cachespec", "internal/storage"}},
	{"internal/azureservice", "a client of Azure Blob Storage: blobs of a container", []string{"internal/crash", "internal/waiting", "internal/cachespec", "internal/storage"}},
	{"internal/ghaservice", "a client of GitHub's cache service: entries, and series of them", []string{"internal/cachespec", "internal/storage"}},
	{"backends", "the six caches: BuildKit's entries for a plan; the stores; reading scopes", []string{"internal/crash", "internal/syntax", "internal/cachespec", "internal/cachegraph", "internal/storage", "internal/layout", "internal/s3service", "internal/azureservice", "internal/hosted", "internal/ghaservice", "scope"}},
	{"internal/refusal", "why a store or a registry refuses a request, and which setting cures that (computes only)", nil},
	{"internal/gateway", "a registry on loopback in front of the stores", []string{"internal/crash", "internal/storage", "backends", "scope"}},
	{"internal/cacheplan", "what BuildKit imports and exports; the outcome of each cache source", []string{"internal/crash", "internal/cachespec", "backends", "scope", "internal/refusal", "internal/cachegraph", "internal/gateway"}},
	{"internal/stepnet", "the network of RUN steps: a CNI plugin, and a TCP/IP stack that sends for them from the machine's network", []string{"internal/crash", "internal/waiting"}},
	{"internal/engineapi", "the container engine: where it is, the BuildKit inside it, and the images that it loads and pushes", []string{"internal/crash"}},
	{"internal/builder", "builders: connects to a remote one or to the engine's, or starts a managed one in a process or a container", []string{"internal/crash", "internal/waiting", "internal/builderspec", "internal/engineapi", "internal/stepnet"}},
	{"internal/mountpack", "the files of a cache mount as packs and an index, and back; runs in the builder", []string{"internal/crash"}},
	{"internal/mountprogram", "the program that does that in the builder, for its platforms", []string{"internal/packed"}},
	{"internal/explain", "why a build failed, in plain words, and what to do next (computes only)", []string{"internal/refusal", "internal/syntax"}},
	{"internal/llbgraph", "what a frontend wants to be done: the file systems of the steps, and which lie on each other (computes only)", nil},
	{"internal/ahead", "what the build will need later: compresses layers, and unpacks those of caches, while steps run", []string{"internal/crash", "internal/llbgraph"}},
	{"internal/tokenauth", "lets the sessions of a build share a registry's tokens", []string{"internal/crash"}},
	{"internal/screen", "passes what a build says through what makes it fit for a log", nil},
	{"internal/partial", "the results that a build made before it failed, as one", []string{"internal/llbgraph"}},
	{"internal/cachemiss", "what a scope remembers of its builds, and why a step was not cached (computes only)", []string{"internal/llbgraph"}},
	{"internal/upkeep", "what is in a store of caches, which of it goes by rules, and its removal", []string{"internal/crash", "internal/cachespec", "internal/cachegraph", "internal/cachemiss", "internal/storage", "backends", "scope"}},
	{"internal/contexthash", "hashes of the files that build contexts send", []string{"internal/cachemiss"}},
	{"internal/cachemounts", "cache mounts: when they are restored and saved, and where they are kept", []string{"internal/crash", "backends", "scope", "internal/llbgraph", "internal/mountpack"}},
	{"internal/together", "what the builds of several targets on one builder have in common", []string{"internal/crash", "internal/syntax"}},
	{"internal/solve", "every request to BuildKit, and its result", []string{"internal/engineapi", "internal/together", "internal/cachemounts", "internal/crash", "internal/waiting", "internal/syntax", "inputs", "internal/refusal", "internal/cacheplan", "internal/builder", "internal/explain", "internal/llbgraph", "internal/ahead", "internal/cachemiss", "internal/contexthash", "internal/tokenauth", "internal/screen", "internal/partial", "internal/timing"}},
	{"internal/join", "one index of the images that several builders or jobs have pushed", []string{"internal/crash", "internal/syntax", "internal/hosted", "backends"}},
	{"internal/report", "the report of a build, in every format; redaction", []string{"internal/crash", "internal/syntax", "scope", "internal/ci", "backends", "internal/cacheplan", "internal/cachemiss", "internal/cachemounts", "internal/solve", "internal/timing"}},
	{"internal/step", "one run: the inputs, resolved together, and the way from the builder to the report", []string{"internal/engineapi", "internal/crash", "internal/syntax", "internal/cachespec", "inputs", "scope", "internal/ci", "backends", "internal/login", "internal/gateway", "internal/cacheplan", "internal/builder", "internal/builderspec", "internal/refusal", "internal/explain", "internal/solve", "internal/join", "internal/report", "internal/timing", "internal/tracing", "internal/cachemounts", "internal/mountprogram", "internal/upkeep", "internal/together"}},
	{"main", "the whole program on one screen; the commands", []string{"internal/bakefile", "internal/crash", "internal/syntax", "inputs", "internal/ci", "internal/builder", "internal/report", "internal/step", "internal/stepnet", "internal/mountpack", "internal/upkeep", "scope"}},
}

// tools are packages beside the program: they generate files or serve tests.
var tools = []room{
	{"inputs/generate", "generates files from the table of inputs", []string{"internal/syntax", "inputs"}},
	{"internal/mountpack/program", "the program of a builder that saves and restores cache mounts", []string{"internal/mountpack"}},
	{"internal/packed/generate", "builds programs that this one contains, and compresses them", nil},
	{"internal/patch", "changes BuildKit's source, for the daemon in the image", nil},
	{"internal/report/picture", "renders a summary like GitHub's page", nil},
	{"internal/testkit", "real servers, daemons and runs of the program, for tests", []string{"internal/syntax", "internal/cachespec", "scope", "backends", "internal/gateway"}},
	{"bench", "what benchmarks measured; its tests are the benchmarks", nil},
	{"bench/page", "makes docs/benchmarks.md of that", []string{"bench"}},
	{"internal/testkit/ghaserver", "a command that runs GitHub's cache service", []string{"internal/testkit"}},
}

// goPackage is the part of go list's description of a package that the tests use.
type goPackage struct {
	ImportPath, Dir           string
	GoFiles, Imports          []string
	TestGoFiles, XTestGoFiles []string
}

// room is the folder of a package in the module; "main" is the module's root.
func (p goPackage) room() string {
	return cmp.Or(strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/"), "main")
}

// packages are the packages of the module that have code besides tests.
func packages(t *testing.T) []goPackage {
	t.Helper()
	return slices.DeleteFunc(allPackages(t), func(p goPackage) bool { return len(p.GoFiles) == 0 })
}

// allPackages are all packages of the module.
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

// Each package imports exactly the rooms that its entry lists.
func TestImportLine(t *testing.T) {
	t.Parallel()
	all, seen := slices.Concat(rooms, tools), map[string]bool{}
	for _, p := range packages(t) {
		i := slices.IndexFunc(all, func(r room) bool { return r.path == p.room() })
		if i < 0 {
			t.Errorf("%s: it has no entry", p.ImportPath)
			continue
		}
		seen[p.room()] = true
		var imported []string
		for _, path := range p.Imports {
			if path, ours := strings.CutPrefix(path, module+"/"); ours {
				imported = append(imported, path)
			}
			if first, _, _ := strings.Cut(path, "/"); p.room() == "scope" && strings.Contains(first, ".") {
				t.Errorf("%s must not import %s, which is not in the standard library", p.ImportPath, path)
			}
		}
		allowed := slices.Sorted(slices.Values(all[i].imports))
		if slices.Sort(imported); !slices.Equal(imported, allowed) {
			t.Errorf("%s imports %v; its entry lists %v", p.ImportPath, imported, allowed)
		}
		for _, path := range allowed {
			if !slices.ContainsFunc(all[:i], func(r room) bool { return r.path == path }) {
				t.Errorf("the entry of %s must follow that of %s, which it imports", p.room(), path)
			}
		}
	}
	for _, r := range all {
		if !seen[r.path] {
			t.Errorf("there is no package %s", r.path)
		}
	}
}

// pure are the rooms that only compute: they do no I/O, and never wait.
var pure = []string{"internal/cachegraph", "internal/explain"}

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

// process are the names of package os that read or change the process instead of a parameter.
var process = []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Args", "Stdin", "Stdout", "Stderr", "Exit"}

// Only a main package uses its process. Every other package uses its parameters.
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
		t.Error("package main does not use os: no file was checked")
	}
}
