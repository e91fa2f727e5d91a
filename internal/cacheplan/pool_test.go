package cacheplan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// TestPool: builds in a pool import the same, which is what all of them read, and each has the outcomes of its own sources.
func TestPool(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		builds, steps int
		caches        int // that have steps
	}{
		"one cache":      {5, 20, 1},
		"several caches": {5, 900, 2}, // of all steps the config has more than BuildKit imports
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := testkit.Gateway(t)
			pool, cache := cacheplan.NewPool(c.builds), newMemoryCache("memory")
			var reads []*cacheplan.Reads
			for i := range c.builds {
				n := scope.Name(fmt.Sprint("b-main.", i))
				one := reading(t, testkit.NewGraph(chainOf(i, c.steps)...), cache, n)
				plan := cacheplan.New(cacheplan.Request{
					Caches: []backends.Backend{cache}, Scopes: scope.Plan{Read: []scope.Source{{Name: n}}},
					Await: found([]backends.Reading{one}), Gateway: g, Pool: pool,
				})
				reads = append(reads, plan.Reads)
			}
			var refs []string
			for i, r := range reads {
				var own []string
				for _, e := range r.Imports(t.Context()) {
					own = append(own, e.Attrs["ref"])
				}
				if i == 0 {
					refs = own
				}
				if !slices.Equal(own, refs) || len(own) != 2 {
					t.Errorf("build %d imports %v, the first one %v", i, own, refs)
				}
			}
			with := 0
			for _, ref := range refs {
				repo := strings.TrimSuffix(strings.TrimPrefix(ref, g.Host+"/"), ":scopes")
				if !strings.HasPrefix(offeredLayers(t, g, repo), "0 layers") {
					with++
				}
			}
			if with != c.caches {
				t.Errorf("%d caches have steps", with)
			}
			for i, r := range reads {
				r.Observe(cacheplan.Attempt{})
				all := r.Outcomes()
				if len(all) != 1 || all[0].Name != fmt.Sprint("b-main.", i) || all[0].State != cacheplan.Loaded || all[0].Err != nil {
					t.Errorf("build %d: %+v", i, all)
				}
			}
		})
	}
}

// chainOf are lines of a graph: a chain of steps, which no other build has.
func chainOf(build, n int) []string {
	lines := []string{fmt.Sprintf("%d-0", build)}
	for i := range n - 1 {
		lines = append(lines, fmt.Sprintf("%d-%d: %d-%d", build, i+1, build, i))
	}
	return lines
}
