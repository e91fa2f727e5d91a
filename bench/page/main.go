// Command page makes docs/benchmarks.md and its plots of what `make bench` measured:
//
//	page docs/benchmarks.json docs
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/atomicwriter"

	"github.com/warmlayer/warmlayer/bench"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "page: arguments are the file with the results and the directory of the page")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func write(results, dir string) error {
	r, err := bench.Load(results)
	if err != nil {
		return err
	}
	for _, g := range r.Groups {
		if err := plotGroup(g, filepath.Join(dir, picture(g))); err != nil {
			return err
		}
	}
	return atomicwriter.WriteFile(filepath.Join(dir, "benchmarks.md"), []byte(page(r)), 0o644)
}

// picture is the file name of a group's plot.
func picture(g bench.Group) string {
	return "benchmarks-" + strings.Join([]string{g.Backend, g.Workload, g.Network}, "-") + ".svg"
}

const introduction = `# Benchmarks

` + "`make bench`" + ` builds and pushes the same image by several ways, one after another, round by round, and makes this page.
Every build has an empty builder whose state is in memory, and its start counts. Each round has a new registry and new
caches, and begins with another way. A figure is the median of the rounds in seconds; in brackets is the median of the
rounds' ratios to docker buildx as its documentation shows it. With a network of 40 ms every round trip to the registry
takes 40 ms longer; in comparisons of s3, azblob and gha every round trip to that store, and the registry is near.

The builders of docker buildx and buildctl unpack with pigz, as BuildKit's image does. warmlayer's is the one of its image: it unpacks
with igzip, and is BuildKit's with [changes](../internal/patch), of which the largest compresses gzip with all processors, to the same bytes. *Tuned* is zstd for the cache and for the image, without provenance, for both.

The workloads: **app** has three stages on a Debian base of 190 MB: 270 MB of dependencies in many files, of which the image has 110 MB,
and a program of 20 MB;
**many** has 60 small layers; **mono** has 20 stages beside each other; **fat** has one layer of 1 GB.
`

// page is the content of benchmarks.md.
func page(r bench.Results) string {
	var b strings.Builder
	b.WriteString(introduction)
	for _, g := range r.Groups {
		fmt.Fprintf(&b, "\n## %s, %s, %s\n\n![Ratios to docker buildx](%s)\n\n", g.Workload, g.Backend, g.Network, picture(g))
		table(&b, g)
		fmt.Fprintf(&b, "\n%d rounds on %s, %s; %s.\n", len(g.Builds[0].Seconds), g.Made, g.Machine, programs(g))
	}
	if len(r.Groups) > 0 {
		commands(&b, r.Groups[0])
	}
	return b.String()
}

func table(b *strings.Builder, g bench.Group) {
	names := waysOf(g)
	fmt.Fprintf(b, "| | %s |\n|%s\n", strings.Join(names, " | "), strings.Repeat(" --- |", len(names)+1))
	for _, scenario := range scenarios(g) {
		fmt.Fprintf(b, "| %s |", scenario)
		for _, way := range names {
			fmt.Fprintf(b, " %s |", cell(g, scenario, way))
		}
		b.WriteString("\n")
	}
}

// cell is "1.23 (0.45)", empty where nothing was measured.
func cell(g bench.Group, scenario, way string) string {
	seconds := g.Find(scenario, way).Seconds
	switch {
	case len(seconds) == 0:
		return ""
	case way == reference:
		return fmt.Sprintf("%.2f", bench.Median(seconds))
	}
	return fmt.Sprintf("%.2f (%.2f)", bench.Median(seconds), g.Ratio(scenario, way, reference))
}

// reference is the way that ratios refer to.
const reference = "buildx"

// waysOf are the names of a group's ways, in the group's order.
func waysOf(g bench.Group) (names []string) {
	for _, w := range g.Ways {
		names = append(names, w.Name)
	}
	return names
}

// scenarios are those of a group, in the order in which they were built.
func scenarios(g bench.Group) (names []string) {
	for _, b := range g.Builds {
		if !slices.Contains(names, b.Scenario) {
			names = append(names, b.Scenario)
		}
	}
	return names
}

func programs(g bench.Group) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(g.Versions)) {
		all = append(all, name+" "+g.Versions[name])
	}
	return strings.Join(all, ", ")
}

func commands(b *strings.Builder, g bench.Group) {
	b.WriteString("\n## The commands\n\nOWN and MAIN are the caches of the branch and of main, in BuildKit's syntax; on main they are one.\n\n")
	for _, w := range g.Ways {
		fmt.Fprintf(b, "- %s: `%s`\n", w.Name, w.Command)
	}
}
