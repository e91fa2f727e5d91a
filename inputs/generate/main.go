// Command generate writes the generated parts of docs/reference and of the packages for CIs
// (action.yml, plugin.yml, templates/build.yml). They stand between marker comments and come
// from the tables of package inputs. The argument is the repository's root, by default the
// working directory.
//
//	go run ./inputs/generate
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
)

// part is a generated piece of a file, between two lines.
type part struct{ file, start, end, text string }

func parts() []part {
	return []part{
		{"docs/reference/inputs.md", "<!-- inputs:start -->", "<!-- inputs:end -->", table()},
		{"docs/reference/outputs.md", "<!-- outputs:start -->", "<!-- outputs:end -->", outputsTable()},
		{"action.yml", "# inputs:start", "# inputs:end", actionYAML()},
		{"action.yml", "# outputs:start", "# outputs:end", outputsYAML()},
		{"templates/build.yml", "# inputs:start", "# inputs:end", gitLabInputs()},
		{"templates/build.yml", "# variables:start", "# variables:end", gitLabVariables()},
		{"plugin.yml", "# inputs:start", "# inputs:end", buildkiteYAML()},
	}
}

// fill returns content with what stands between the part's marker lines replaced.
func (p part) fill(content string) (string, error) {
	before, rest, ok := strings.Cut(content, p.start+"\n")
	if !ok {
		return "", fmt.Errorf("%s: no line %q", p.file, p.start)
	}
	at := strings.Index(rest, p.end)
	if at < 0 {
		return "", fmt.Errorf("%s: no line %q", p.file, p.end)
	}
	indent := rest[:at][strings.LastIndex(rest[:at], "\n")+1:]
	return before + p.start + "\n" + p.text + indent + rest[at:], nil
}

func run(root string) error {
	for _, p := range parts() {
		name := filepath.Join(root, p.file)
		content, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read %s: %w", p.file, err)
		}
		filled, err := p.fill(string(content))
		if err != nil {
			return err
		}
		if filled == string(content) {
			continue
		}
		if err := os.WriteFile(name, []byte(filled), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", p.file, err)
		}
	}
	return nil
}

func main() {
	log.SetFlags(0)
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	if err := run(root); err != nil {
		log.Fatal(err)
	}
}
