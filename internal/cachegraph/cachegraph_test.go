package cachegraph_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	cacheimport "github.com/moby/buildkit/cache/remotecache/v1"
	"github.com/moby/buildkit/solver"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

type graph struct{ testkit.Graph }

func newGraph(lines ...string) graph { return graph{testkit.NewGraph(lines...)} }

// cache is a cache of the graph's steps, with layers that the maker has built.
func (g graph) cache(t testing.TB, maker string) cachegraph.Cache {
	t.Helper()
	m, config, _ := g.Cache(t, maker)
	c, err := cachegraph.Parse(config, m.Layers)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func merge(t testing.TB, caches []cachegraph.Cache) cachegraph.Cache {
	t.Helper()
	merged, err := cachegraph.MergeWithin(caches, math.MaxInt)
	if err != nil || merged.Caches != len(caches) || merged.Dropped > 0 {
		t.Fatalf("%d of %d caches, %d results dropped: %v, %v", merged.Caches, len(caches), merged.Dropped, merged.Refused, err)
	}
	return merged.Cache
}

// storage is a cache in the form in which BuildKit's importer keeps it.
func storage(t testing.TB, c cachegraph.Cache) solver.CacheKeyStorage {
	t.Helper()
	layers := cacheimport.DescriptorProvider{}
	for _, l := range c.Layers {
		layers[l.Digest] = cacheimport.DescriptorProviderPair{Descriptor: l}
	}
	chains := cacheimport.NewCacheChains()
	if err := cacheimport.ParseConfig(c.Config, layers, chains); err != nil {
		t.Fatal(err)
	}
	keys, _, err := cacheimport.NewCacheKeyStorage(chains, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// find looks up a step of a build as BuildKit's solver does: the keys of a step are those that all
// of its inputs lead to.
func (g graph) find(t testing.TB, keys solver.CacheKeyStorage, name string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	if root := testkit.RecordDigest(name).String(); len(g.Graph[name]) == 0 && keys.Exists(root) {
		found[root] = true
	}
	for i, alternatives := range g.Graph[name] {
		byInput := map[string]bool{}
		for _, a := range alternatives {
			for id := range g.find(t, keys, a) {
				link := solver.CacheInfoLink{Input: solver.Index(i), Digest: testkit.StepDigest(name)}
				if err := keys.WalkLinks(id, link, func(id string) error { byInput[id] = true; return nil }); err != nil {
					t.Fatal(err)
				}
			}
		}
		if i == 0 {
			found = byInput
			continue
		}
		for id := range found {
			if !byInput[id] {
				delete(found, id)
			}
		}
	}
	return found
}

// hit tells whether a cache has a result for a step of a build.
func (g graph) hit(t testing.TB, keys solver.CacheKeyStorage, name string) bool {
	t.Helper()
	hit := false
	for id := range g.find(t, keys, name) {
		if err := keys.WalkResults(id, func(solver.CacheResult) error { hit = true; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return hit
}

// merges are builds whose caches are merged. A step with alternatives is an input that BuildKit
// knows by a fast key and by the key of its content.
var merges = []struct {
	name   string
	graphs []graph
	misses []graph // builds whose step x is in no cache
	hits   []graph // builds whose step x is only in the merge of all caches
}{
	{"one", []graph{newGraph("base", "x: base")}, nil, nil},
	{"the same twice", []graph{newGraph("base", "x: base", "y: x"), newGraph("base", "x: base", "y: x")}, nil, nil},
	{"one goes on", []graph{newGraph("base", "x: base"), newGraph("base", "x: base", "y: x", "z: y")}, nil, nil},
	{"they part", []graph{newGraph("base", "x: base", "y: x"), newGraph("base", "x: base", "z: x")}, nil, nil},
	{"nothing in common", []graph{newGraph("a", "b: a"), newGraph("c", "d: c")}, []graph{newGraph("a", "x: a"), newGraph("c", "x: c")}, nil},
	{"the same step on two bases", []graph{newGraph("a", "x: a"), newGraph("b", "x: b")}, []graph{newGraph("c", "x: c")}, nil},
	{"two keys", []graph{newGraph("fast", "slow", "x: fast|slow", "y: x"), newGraph("fast", "slow", "x: fast|slow", "z: x")}, nil, nil},
	{"one key each", []graph{newGraph("fast", "slow", "x: fast", "y: x"), newGraph("fast", "slow", "x: slow", "z: x")}, nil, nil},
	{"a key more", []graph{newGraph("slow", "x: slow", "y: x"), newGraph("fast", "slow", "x: fast|slow", "z: x")}, nil, nil},
	{"keys that a third cache joins", []graph{
		newGraph("a", "b", "c", "x: a", "y: x"), newGraph("a", "b", "c", "x: b|c", "z: x"), newGraph("a", "b", "c", "x: a|b", "w: x"),
	}, []graph{newGraph("d", "x: d")}, []graph{newGraph("c", "x: c", "y: x", "w: x"), newGraph("a", "x: a", "z: x")}},
	{"a circle", []graph{
		newGraph("a", "b", "x: a", "y: x|b", "z: y"), newGraph("a", "b", "y: b", "x: y|a", "w: x"),
	}, nil, []graph{newGraph("b", "y: b", "z: y"), newGraph("a", "x: a", "w: x")}},
	{"two inputs", []graph{newGraph("a", "b", "x: a b", "y: x"), newGraph("a", "b", "c", "x: a b", "z: x c")}, []graph{newGraph("a", "b", "x: b a")}, nil},
	{"two inputs with two keys", []graph{
		newGraph("a", "a2", "b", "b2", "x: a|a2 b|b2", "y: x"),
		newGraph("a", "a2", "b", "b2", "x: a|a2 b|b2", "y: x", "z: y"),
		newGraph("a2", "b", "x: a2 b", "w: x"),
	}, nil, []graph{newGraph("a", "b2", "x: a b2", "y: x", "z: y", "w: x")}},
}

func TestMerge(t *testing.T) {
	t.Parallel()
	for _, test := range merges {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// BuildKit iterates over Go's maps, in another order each time.
			for range 20 {
				var caches []cachegraph.Cache
				blobs := map[digest.Digest]bool{}
				for i, g := range test.graphs {
					c := g.cache(t, fmt.Sprint("build ", i))
					for _, l := range c.Layers {
						blobs[l.Digest] = true
					}
					caches = append(caches, c)
				}
				merged := merge(t, caches)
				keys := storage(t, merged)
				for i, g := range slices.Concat(test.graphs, test.hits) {
					for name := range g.Graph {
						if !g.hit(t, keys, name) {
							t.Errorf("build %d: no hit for %s in %+v", i, name, merged.Config)
						}
					}
				}
				for _, g := range test.misses {
					if g.hit(t, keys, "x") {
						t.Errorf("a hit for the build %v", g)
					}
				}
				for _, l := range merged.Layers {
					if !blobs[l.Digest] {
						t.Errorf("no cache has layer %s", l.Digest)
					}
				}
			}
		})
	}
}

// Records that match are merged into one: of two records, BuildKit would pick one by chance.
func TestMergeMakesOne(t *testing.T) {
	t.Parallel()
	for _, test := range merges {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := test.graphs[len(test.graphs)-1]
			var caches []cachegraph.Cache
			for i := range 3 {
				caches = append(caches, g.cache(t, fmt.Sprint("build ", i)))
			}
			if config := merge(t, caches).Config; len(config.Records) != len(g.Graph) {
				t.Errorf("%d records for %d steps: %+v", len(config.Records), len(g.Graph), config)
			}
		})
	}
}

// BuildKit refuses these configs too.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"not JSON":      "<html>",
		"no such layer": `{"records":[{"digest":"sha256:00","layers":[{"layer":7}]}]}`,
		"no such input": `{"records":[{"digest":"sha256:00","inputs":[[{"link":7}]]}]}`,
		"empty input":   `{"records":[{"digest":"sha256:00","inputs":[[]]}]}`,
		"loop":          `{"records":[{"digest":"sha256:00","inputs":[[{"link":0}]]}]}`,
	} {
		if c, err := cachegraph.Parse([]byte(config), nil); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// A result with a layer without a descriptor is ignored, and the config beyond that layer is not
// read, as in BuildKit.
func TestMergeUnnamedLayer(t *testing.T) {
	t.Parallel()
	g := newGraph("base", "x: base")
	m, config, _ := g.Cache(t, "me")
	for name, layer := range map[string]string{
		"a loop":            `{"blob":"sha256:00","parent":2}`,
		"no such parent":    `{"blob":"sha256:00","parent":7}`,
		"a parent of all":   `{"blob":"sha256:00","parent":-1}`,
		"a parent below it": `{"blob":"sha256:00","parent":-7}`,
	} {
		for result, records := range map[string]string{
			"result": `"layers":[{"layer":2}]`, "chain": `"chains":[{"layers":[0,2,9]}]`,
		} {
			t.Run(name+" in a "+result, func(t *testing.T) {
				t.Parallel()
				var doc struct {
					Layers  []json.RawMessage `json:"layers"`
					Records []json.RawMessage `json:"records"`
				}
				if err := json.Unmarshal(config, &doc); err != nil {
					t.Fatal(err)
				}
				doc.Layers = append(doc.Layers, json.RawMessage(layer))
				doc.Records = append(doc.Records, json.RawMessage(fmt.Sprintf(`{"digest":%q,%s}`, testkit.RecordDigest("y"), records)))
				raw, err := json.Marshal(doc)
				if err != nil {
					t.Fatal(err)
				}
				c, err := cachegraph.Parse(raw, m.Layers)
				if err != nil {
					t.Fatal(err)
				}
				merged := merge(t, []cachegraph.Cache{c})
				keys := storage(t, merged)
				if !g.hit(t, keys, "x") {
					t.Error("no hit for x")
				}
				if newGraph("y").hit(t, keys, "y") {
					t.Errorf("a hit for y in %+v", merged.Config)
				}
			})
		}
	}
}

// A merge that is too large is made of fewer caches, the first ones, and of a part of the
// first one.
func TestMergeWithin(t *testing.T) {
	t.Parallel()
	var caches []cachegraph.Cache
	for i := range 3 {
		caches = append(caches, newGraph(fmt.Sprint(i, "a"), fmt.Sprint(i, "b")).cache(t, "me"))
	}
	sizes := make([]int, 4)
	for n := range sizes {
		raw, err := json.Marshal(merge(t, caches[:n]).Config)
		if err != nil {
			t.Fatal(err)
		}
		sizes[n] = len(raw)
	}
	for _, test := range []struct{ limit, caches, records, dropped int }{
		{sizes[3], 3, 6, 0},
		{sizes[3] - 1, 2, 4, 0},
		{sizes[2], 2, 4, 0},
		{sizes[2] - 1, 1, 2, 0},
		{sizes[1], 1, 2, 0},
		{sizes[1] - 1, 1, 1, 1},
		{sizes[0], 1, 0, 2},
	} {
		out, err := cachegraph.MergeWithin(caches, test.limit)
		if err != nil || out.Caches != test.caches || len(out.JSON) > test.limit || len(out.Refused) != 3-test.caches || out.Dropped != test.dropped {
			t.Errorf("within %d bytes: %d caches, %d bytes, %d dropped, %v", test.limit, out.Caches, len(out.JSON), out.Dropped, err)
		}
		if len(out.Config.Records) != test.records || len(out.Layers) != test.records {
			t.Errorf("within %d bytes: %+v", test.limit, out.Cache)
		}
	}
}

// randomGraph is a build whose steps depend on earlier steps, each known by one key or by two.
// Builds of one seed have the same steps, but not all of the same keys.
func randomGraph(r *rand.Rand, steps int) graph {
	g := graph{testkit.Graph{}}
	name := func(i int) string { return fmt.Sprintf("s%02d", i) }
	for i := range steps {
		var inputs [][]string
		for range min(i, i%3) {
			input := []string{name(r.IntN(i))}
			if other := name(r.IntN(i)); other != input[0] {
				input = append(input, other)
			}
			inputs = append(inputs, input)
		}
		g.Graph[name(i)] = inputs
	}
	return g
}

// In the merge of any caches, each build finds everything that its own cache has.
func TestMergeRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, seed))
		var graphs []graph
		var caches []cachegraph.Cache
		for i := range 3 {
			graphs = append(graphs, randomGraph(r, 12))
			caches = append(caches, graphs[i].cache(t, fmt.Sprint("build ", i)))
		}
		merged := merge(t, caches)
		keys := storage(t, merged)
		for i, g := range graphs {
			for name := range g.Graph {
				if !g.hit(t, keys, name) {
					t.Fatalf("seed %d, build %d %v: no hit for %s in %+v", seed, i, g, name, merged.Config)
				}
			}
		}
	}
}

// BenchmarkMerge parses and merges the caches of six scopes, of a thousand steps each.
func BenchmarkMerge(b *testing.B) {
	var manifests []backends.Manifest
	var configs [][]byte
	for i := range 6 {
		lines := []string{"0"}
		for n := range 1000 {
			line := fmt.Sprintf("%d: %d", n+1, n)
			if n > 0 {
				line += fmt.Sprintf("|%d", n-1)
			}
			lines = append(lines, line)
		}
		m, config, _ := newGraph(lines...).Cache(b, fmt.Sprint("build ", i))
		manifests, configs = append(manifests, m), append(configs, config)
	}
	for b.Loop() {
		var caches []cachegraph.Cache
		for i, m := range manifests {
			c, err := cachegraph.Parse(configs[i], m.Layers)
			if err != nil {
				b.Fatal(err)
			}
			caches = append(caches, c)
		}
		if out, err := cachegraph.MergeWithin(caches, 1<<20); out.Caches != 6 || err != nil {
			b.Fatalf("%d caches: %v", out.Caches, err)
		}
	}
}
