package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	cacheimport "github.com/moby/buildkit/cache/remotecache/v1"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/scope"
)

// merged is what BuildKit gets when it imports the sources through a gateway.
func merged(t testing.TB, sources ...backends.Source) (backends.Manifest, []byte) {
	t.Helper()
	g := listen(t)
	imports := gateway.Connect(nil, nil, scope.Plan{}, backends.Record{}, g).Imports(t.Context(), sources)
	if len(imports) != 1 {
		t.Fatalf("imports %v", imports)
	}
	defer imports[0].Settle()
	repo, tag, _ := strings.Cut(strings.TrimPrefix(imports[0].Entry.Attrs["ref"], g.Host+"/"), ":")
	answer := ask(t, g, "GET", "/v2/"+repo+"/manifests/"+tag, nil)
	m, err := backends.ParseManifest([]byte(answer.body), answer.header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	return m, []byte(ask(t, g, "GET", blobURL(repo, m.Config.Digest), nil).body)
}

// storage is a cache as BuildKit's importer keeps it.
func storage(t testing.TB, m backends.Manifest, config []byte) solver.CacheKeyStorage {
	t.Helper()
	layers := cacheimport.DescriptorProvider{}
	for _, l := range m.Layers {
		layers[l.Digest] = cacheimport.DescriptorProviderPair{Descriptor: l}
	}
	chains := cacheimport.NewCacheChains()
	if err := cacheimport.Parse(config, layers, chains); err != nil {
		t.Fatal(err)
	}
	keys, _, err := cacheimport.NewCacheKeyStorage(chains, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// find looks a step of a build up, as BuildKit's solver does: a step's keys are those
// that all of its inputs lead to.
func (g graph) find(t testing.TB, keys solver.CacheKeyStorage, name string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	if root := digest.FromString(step(name).String() + "@0").String(); len(g[name]) == 0 && keys.Exists(root) {
		found[root] = true
	}
	for i, alternatives := range g[name] {
		byInput := map[string]bool{}
		for _, a := range alternatives {
			for id := range g.find(t, keys, a) {
				link := solver.CacheInfoLink{Input: solver.Index(i), Digest: step(name)}
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

// Builds whose caches meet in a merge. Where a step has alternatives, BuildKit knows
// its input by a fast key and by the content's.
var merges = []struct {
	name   string
	graphs []graph
	misses []graph // builds of which no cache has step x
	hits   []graph // builds that are known to all caches together only
}{
	{"one", []graph{newGraph("base", "x: base")}, nil, nil},
	{"the same twice", []graph{newGraph("base", "x: base", "y: x"), newGraph("base", "x: base", "y: x")}, nil, nil},
	{"one goes on", []graph{newGraph("base", "x: base"), newGraph("base", "x: base", "y: x", "z: y")}, nil, nil},
	{"they part", []graph{newGraph("base", "x: base", "y: x"), newGraph("base", "x: base", "z: x")}, nil, nil},
	{"strangers", []graph{newGraph("a", "b: a"), newGraph("c", "d: c")}, []graph{newGraph("a", "x: a"), newGraph("c", "x: c")}, nil},
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
			// BuildKit walks Go's maps, in another order each time.
			for range 20 {
				var sources []backends.Source
				blobs := map[digest.Digest]bool{}
				for i, g := range test.graphs {
					s := g.loaded(t, &gated{store: newStore()}, scope.Name(fmt.Sprintf("b-%d", i)))
					for _, l := range s.Manifest.Layers {
						blobs[l.Digest] = true
					}
					sources = append(sources, s)
				}
				m, config := merged(t, sources...)
				keys := storage(t, m, config)
				for i, g := range slices.Concat(test.graphs, test.hits) {
					for name := range g {
						if !g.hit(t, keys, name) {
							t.Errorf("build %d: no hit for %s in %s", i, name, config)
						}
					}
				}
				for _, g := range test.misses {
					if g.hit(t, keys, "x") {
						t.Errorf("a hit for the build %v", g)
					}
				}
				for _, l := range m.Layers {
					if !blobs[l.Digest] {
						t.Errorf("layer %s is nobody's", l.Digest)
					}
				}
			}
		})
	}
}

// Records that say the same are one: side by side, BuildKit tells them apart by chance.
func TestMergeMakesOne(t *testing.T) {
	t.Parallel()
	for _, test := range merges {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := test.graphs[len(test.graphs)-1]
			var sources []backends.Source
			for i := range 3 {
				sources = append(sources, g.loaded(t, &gated{store: newStore()}, scope.Name(fmt.Sprintf("b-%d", i))))
			}
			_, config := merged(t, sources...)
			var parsed cacheconfig.CacheConfig
			if err := json.Unmarshal(config, &parsed); err != nil {
				t.Fatal(err)
			}
			if len(parsed.Records) != len(g) {
				t.Errorf("%d records for %d steps: %s", len(parsed.Records), len(g), config)
			}
		})
	}
}

// A source whose config cannot be understood fails alone.
func TestMergeDamaged(t *testing.T) {
	t.Parallel()
	g := newGraph("base", "x: base")
	for name, config := range map[string]string{
		"not JSON":      "<html>",
		"no such layer": `{"records":[{"digest":"sha256:00","layers":[{"layer":7}]}]}`,
		"no such input": `{"records":[{"digest":"sha256:00","inputs":[[{"link":7}]]}]}`,
		"empty input":   `{"records":[{"digest":"sha256:00","inputs":[[]]}]}`,
		"loop":          `{"records":[{"digest":"sha256:00","inputs":[[{"link":0}]]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good, bad := g.loaded(t, &gated{store: newStore()}, "b-good"), newGraph("y").loaded(t, &gated{store: newStore()}, "b-bad")
			bad.Config = []byte(config)
			caches, sources := gateway.Connect(nil, nil, scope.Plan{}, backends.Record{}, listen(t)), []backends.Source{bad, good}
			imports := caches.Imports(t.Context(), sources)
			if imports[0].Settle(); len(imports) != 1 || len(imports[0].Sources) != 1 || imports[0].Sources[0] != &sources[1] {
				t.Errorf("imports %v", imports)
			}
			if sources[0].State != backends.Failed || sources[0].Err == nil || sources[1].State != backends.Loaded {
				t.Errorf("%s: %v; %s", sources[0].State, sources[0].Err, sources[1].State)
			}
			if imports := caches.Imports(t.Context(), sources[:1]); len(imports) != 0 {
				t.Errorf("without the good one: imports %v", imports)
			}
		})
	}
}

// A result with a layer that the manifest does not name is none, and what the config says of
// that layer is nobody's business: BuildKit does not look at it either.
func TestMergeUnnamedLayer(t *testing.T) {
	t.Parallel()
	g := newGraph("base", "x: base")
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
				s := g.loaded(t, &gated{store: newStore()}, "b-main")
				var c struct {
					Layers  []json.RawMessage `json:"layers"`
					Records []json.RawMessage `json:"records"`
				}
				if err := json.Unmarshal(s.Config, &c); err != nil {
					t.Fatal(err)
				}
				c.Layers = append(c.Layers, json.RawMessage(layer))
				c.Records = append(c.Records, json.RawMessage(fmt.Sprintf(`{"digest":%q,%s}`, digest.FromString(step("y").String()+"@0"), records)))
				s.Config = encode(t, c)
				m, config := merged(t, s)
				keys := storage(t, m, config)
				if !g.hit(t, keys, "x") || s.State != backends.Loaded {
					t.Errorf("no hit for x; the source is %s: %v", s.State, s.Err)
				}
				if newGraph("y").hit(t, keys, "y") {
					t.Errorf("a hit for y in %s", config)
				}
			})
		}
	}
}

// The build begins while nobody knows yet whether a cache is whole. BuildKit is told when
// it is known, and gets what is whole.
func TestMergeUnsettled(t *testing.T) {
	t.Parallel()
	far := &gated{store: newStore(), name: "far"}
	far.unsure = make(chan struct{})
	var plan scope.Plan
	for i, g := range []graph{newGraph("base", "x: base"), newGraph("base", "y: base")} {
		n := scope.Name(fmt.Sprintf("b-%d", i))
		m, _ := g.cache(t, far.store, string(n))
		if err := far.PutManifest(t.Context(), n, m); err != nil {
			t.Fatal(err)
		}
		plan.Read = append(plan.Read, scope.Source{Name: n})
	}
	sources := backends.Read(t.Context(), []backends.Keeper{far}, plan, time.Minute)
	lost := sources[1].Manifest.Layers[1].Digest
	far.mu.Lock()
	delete(far.blobs, lost)
	far.mu.Unlock()

	g := listen(t)
	imports := gateway.Connect(nil, nil, plan, backends.Record{}, g).Imports(t.Context(), sources)
	if len(imports) != 1 || sources[0].State != backends.Loaded || sources[1].State != backends.Loaded {
		t.Fatalf("imports %v of sources %v", imports, sources)
	}
	asked := make(chan answer)
	go func() { asked <- ask(t, g, "GET", "/v2/s0/manifests/scopes", nil) }()
	select {
	case a := <-asked:
		t.Fatalf("before anything is known: %+v", a)
	case far.unsure <- struct{}{}: // the first is asked about
	}
	close(far.unsure)
	m, err := backends.ParseManifest([]byte((<-asked).body), ocispecs.MediaTypeImageManifest)
	if err != nil || len(m.Layers) != 2 || slices.ContainsFunc(m.Layers, func(l ocispecs.Descriptor) bool { return l.Digest == lost }) {
		t.Errorf("%v, layers %v", err, m.Layers)
	}
	if imports[0].Settle(); len(imports[0].Sources) != 1 || imports[0].Sources[0] != &sources[0] {
		t.Errorf("sources of the import: %v", imports[0].Sources)
	}
	if sources[1].State != backends.Failed || !errors.Is(sources[1].Err, backends.ErrGone) {
		t.Errorf("the other is %s: %v", sources[1].State, sources[1].Err)
	}
}

// Where nothing is left there is an empty cache, which BuildKit reads like any other.
func TestMergeEmpty(t *testing.T) {
	t.Parallel()
	s := newGraph("base").loaded(t, &gated{store: newStore()}, "b-main")
	s.Config = []byte("{")
	m, config := merged(t, s)
	if keys := storage(t, m, config); newGraph("base").hit(t, keys, "base") {
		t.Errorf("a hit in %s", config)
	}
}

// What BuildKit would refuse for its size is made of fewer sources, the nearest ones.
func TestMergeTooLarge(t *testing.T) {
	t.Parallel()
	var sources []backends.Source
	for i := range 3 {
		var lines []string
		for n := range 3000 {
			lines = append(lines, fmt.Sprintf("%d-%d", i, n))
		}
		s := newGraph(lines...).loaded(t, &gated{store: newStore()}, scope.Name(fmt.Sprintf("b-%d", i)))
		if len(s.Config) > backends.MaxConfig || 3*len(s.Config) < backends.MaxConfig {
			t.Fatalf("a config of %d bytes", len(s.Config))
		}
		sources = append(sources, s)
	}
	_, config := merged(t, sources...)
	if len(config) > backends.MaxConfig {
		t.Errorf("a config of %d bytes", len(config))
	}
	if sources[0].State != backends.Loaded || sources[2].State != backends.Failed || !strings.Contains(sources[2].Err.Error(), "larger than the 1048576 bytes") {
		t.Errorf("%s, %s, %s: %v", sources[0].State, sources[1].State, sources[2].State, sources[2].Err)
	}
}

// randomGraph is a build whose steps depend on steps before them, each known by one key or
// by two. Builds of one seed have all their steps in common, and not all their keys.
func randomGraph(r *rand.Rand, steps int) graph {
	g := graph{}
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
		g[name(i)] = inputs
	}
	return g
}

// Whatever caches meet, each finds again what it held.
func TestMergeRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, seed))
		var graphs []graph
		var sources []backends.Source
		for i := range 3 {
			graphs = append(graphs, randomGraph(r, 12))
			sources = append(sources, graphs[i].loaded(t, &gated{store: newStore()}, scope.Name(fmt.Sprintf("b-%d", i))))
		}
		m, config := merged(t, sources...)
		keys := storage(t, m, config)
		for i, g := range graphs {
			for name := range g {
				if !g.hit(t, keys, name) {
					t.Fatalf("seed %d, build %d %v: no hit for %s in %s", seed, i, g, name, config)
				}
			}
		}
	}
}

// BenchmarkMerge merges the caches of six scopes, of a thousand steps each.
func BenchmarkMerge(b *testing.B) {
	var sources []backends.Source
	for i := range 6 {
		lines := []string{"0"}
		for n := range 1000 {
			line := fmt.Sprintf("%d: %d", n+1, n)
			if n > 0 {
				line += fmt.Sprintf("|%d", n-1)
			}
			lines = append(lines, line)
		}
		s := newGraph(lines...).loaded(b, &gated{store: newStore()}, scope.Name(fmt.Sprintf("b-%d", i)))
		sources = append(sources, s)
	}
	caches := gateway.Connect(nil, nil, scope.Plan{}, backends.Record{}, listen(b))
	for b.Loop() {
		imports := caches.Imports(b.Context(), sources)
		if imports[0].Settle(); len(imports[0].Sources) != 6 {
			b.Fatalf("imports %v", imports)
		}
	}
}
