package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/bench"
)

// The page has a table with each median and ratio, nothing where nothing was measured, and a plot.
func TestPage(t *testing.T) {
	g := bench.Group{
		Backend: "registry", Workload: "app", Network: "40ms", Machine: "2 × CPU", Made: "2026-11-29",
		Versions: map[string]string{"runc": "1.1", "buildkit": "v0.34.2"},
		Ways:     []bench.Way{{Name: "buildx", Command: "docker buildx"}, {Name: "warmlayer", Command: "warmlayer build"}, {Name: "old", Command: "old build"}},
	}
	g.Add("cold", "buildx", 20, 0)
	g.Add("cold", "warmlayer", 10, 0)
	g.Add("unchanged", "buildx", 1, 6)
	g.Add("unchanged", "old", 24, 0)
	dir := t.TempDir()
	results := filepath.Join(dir, "results.json")
	if err := g.Save(results); err != nil {
		t.Fatal(err)
	}
	if err := write(results, dir); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	page := read("benchmarks.md")
	for _, line := range []string{
		"## app, registry, 40ms", "| | buildx | warmlayer | old |", "| --- | --- | --- | --- |", "| cold | 20.00 | 10.00 (0.50) |  |",
		"| unchanged | 1.00 |  | 24.00 (24.00) |", "1 rounds on 2026-11-29, 2 × CPU; buildkit v0.34.2, runc 1.1.", "- warmlayer: `warmlayer build`",
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("no line %q in\n%s", line, page)
		}
	}
	if plot := read("benchmarks-registry-app-40ms.svg"); !strings.Contains(plot, ">warmlayer</text>") || !strings.Contains(plot, ">24 ×</text>") {
		t.Errorf("the plot names no way, or not the ratio of a bar that is cut:\n%.300s", plot)
	}
}
