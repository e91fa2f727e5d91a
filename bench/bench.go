// Package bench measures warmlayer against what users have: docker buildx as its documentation shows
// it, docker buildx tuned by hand, and BuildKit's own client with warmlayer's cache entries. The
// benchmarks are tests of this package:
//
//	make bench
//
// The package holds what they measured, and bench/page makes docs/benchmarks.md of it.
package bench

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/moby/sys/atomicwriter"
)

// Results is the content of docs/benchmarks.json.
type Results struct {
	Groups []Group `json:"groups"`
}

// Group is one comparison: the same builds by several ways, round by round.
type Group struct {
	Backend  string            `json:"backend"`  // a cache's type: "registry"
	Workload string            `json:"workload"` // "app"
	Network  string            `json:"network"`  // "loopback", or the round trip: "40ms"
	Machine  string            `json:"machine"`  // "2 × AMD EPYC, 24 GB, Linux 6.1"
	Made     string            `json:"made"`     // "2026-11-29"
	Versions map[string]string `json:"versions"` // of each program: "buildkit": "v0.34.2"
	Ways     []Way             `json:"ways"`
	Builds   []Build           `json:"builds"`
}

// Way is a tool with its settings.
type Way struct {
	Name    string `json:"name"`
	Command string `json:"command"` // with CAPITALS for what differs between builds
}

// Build is the time that a way took for a scenario, from before its builder starts until the tool has
// ended, and the number of steps that were cached. Each slice has one value for each round.
type Build struct {
	Scenario string    `json:"scenario"`
	Way      string    `json:"way"`
	Seconds  []float64 `json:"seconds"`
	Cached   []int     `json:"cached"`
}

// Name is that of the benchmark: "registry/app/40ms".
func (g Group) Name() string { return g.Backend + "/" + g.Workload + "/" + g.Network }

// Find is what a way took for a scenario; the zero value: it was not measured.
func (g Group) Find(scenario, way string) Build {
	if i := g.index(scenario, way); i >= 0 {
		return g.Builds[i]
	}
	return Build{}
}

func (g Group) index(scenario, way string) int {
	return slices.IndexFunc(g.Builds, func(b Build) bool { return b.Scenario == scenario && b.Way == way })
}

// Add adds one build of a round.
func (g *Group) Add(scenario, way string, seconds float64, cached int) {
	i := g.index(scenario, way)
	if i < 0 {
		i = len(g.Builds)
		g.Builds = append(g.Builds, Build{Scenario: scenario, Way: way})
	}
	b := &g.Builds[i]
	b.Seconds, b.Cached = append(b.Seconds, seconds), append(b.Cached, cached)
}

// Ratio is the median of the ratios of the rounds; 0: one of them was not measured.
func (g Group) Ratio(scenario, way, to string) float64 {
	ours, theirs := g.Find(scenario, way).Seconds, g.Find(scenario, to).Seconds
	if len(ours) == 0 || len(ours) != len(theirs) {
		return 0
	}
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	return Median(ratios)
}

// Median is the middle of the values, or the mean of the two in the middle; v has at least one value.
func Median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Load reads results; a file that does not exist has none.
func Load(file string) (r Results, err error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	return r, err
}

// Save adds a group to a file, in place of one of its name.
func (g Group) Save(file string) error {
	r, err := Load(file)
	if err != nil {
		return err
	}
	same := func(other Group) bool { return other.Name() == g.Name() }
	if i := slices.IndexFunc(r.Groups, same); i >= 0 {
		r.Groups[i] = g
	} else {
		r.Groups = append(r.Groups, g)
	}
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return atomicwriter.WriteFile(file, append(content, '\n'), 0o644)
}
