package checks

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the rooms into ARCHITECTURE.md")

const (
	roomsStart = "<!-- rooms:start -->\n"
	roomsEnd   = "<!-- rooms:end -->\n"
)

// ARCHITECTURE.md shows the rooms of this package's table.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	const file = "ARCHITECTURE.md"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), roomsStart)
	_, after, closed := strings.Cut(rest, roomsEnd)
	if !found || !closed {
		t.Fatalf("%s needs the lines %q and %q", file, roomsStart, roomsEnd)
	}
	want := before + roomsStart + picture() + table() + roomsEnd + after
	if want == string(content) {
		return
	}
	if !*update {
		t.Errorf("%s differs from the rooms in rooms_test.go: run go test ./internal/checks -update", file)
	} else if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

var filePath = regexp.MustCompile("`([a-zA-Z0-9_.-]+(?:/[a-zA-Z0-9_.-]*)+|[a-z_]+\\.go)`")

// The files that the documents for developers name exist.
func TestNamedFiles(t *testing.T) {
	t.Parallel()
	found := 0
	for _, document := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md"} {
		content, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range filePath.FindAllStringSubmatch(string(content), -1) {
			found++
			if _, err := os.Stat(match[1]); err != nil {
				t.Errorf("%s names %s: %v", document, match[1], err)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d files are named", found)
	}
}

// picture draws the rooms with their imports as a Mermaid diagram. It omits an import of a room
// that another import leads to.
func picture() string {
	var b strings.Builder
	b.WriteString("```mermaid\nflowchart BT\n")
	for _, r := range rooms {
		for _, path := range r.imports {
			if !slices.ContainsFunc(r.imports, func(other string) bool { return other != path && reaches(other, path) }) {
				fmt.Fprintf(&b, "    %s --> %s\n", name(r.path), name(path))
			}
		}
	}
	b.WriteString("```\n\n")
	return b.String()
}

// reaches tells whether a room imports another one, directly or through others.
func reaches(from, to string) bool {
	i := slices.IndexFunc(rooms, func(r room) bool { return r.path == from })
	return slices.ContainsFunc(rooms[i].imports, func(path string) bool { return path == to || reaches(path, to) })
}

func table() string {
	var b strings.Builder
	b.WriteString("| room | what it knows | imports |\n| --- | --- | --- |\n")
	for _, r := range rooms {
		var imports []string
		for _, path := range r.imports {
			imports = append(imports, name(path))
		}
		if len(imports) == 0 {
			imports = []string{"nothing"}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.path, r.knows, strings.Join(imports, ", "))
	}
	return b.String()
}

// name is the short name of a room: the last word of its path.
func name(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
