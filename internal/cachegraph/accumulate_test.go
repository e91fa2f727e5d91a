package cachegraph_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// project is a repository whose builds are simulated: each variant is a chain of steps, of which
// the first ones are shared. A change renames a step, and so all steps after it.
type project struct {
	r        *rand.Rand
	now      time.Time
	shared   []int   // the version of each shared step
	variants [][]int // of each variant's own steps
	made     map[string]ocispecs.Descriptor
}

// stage is the number of steps after which a build begins with an empty file system again.
const stage = 10

// built is a simulated build.
type built struct {
	cachegraph.Build
	steps  []string // from the first one on
	layers map[digest.Digest]int64
}

func newProject(seed uint64) *project {
	r := rand.New(rand.NewPCG(seed, 11))
	p := &project{r: r, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), shared: make([]int, 1+r.IntN(3)), made: map[string]ocispecs.Descriptor{}}
	for range 1 + r.IntN(6) {
		p.variants = append(p.variants, make([]int, 1+r.IntN(4)))
	}
	return p
}

// change edits the code at a random place, or reverts it.
func (p *project) change() {
	at := p.shared
	if p.r.IntN(3) > 0 {
		at = p.variants[p.r.IntN(len(p.variants))]
	}
	at[p.r.IntN(len(at))] = p.r.IntN(3)
}

// build builds one variant. Its steps that are in no cache get new layers.
func (p *project) build(variant int, cached func(steps []string) bool) (built, cachegraph.Cache) {
	b := built{Build: cachegraph.Build{Variant: fmt.Sprint("variant ", variant), Time: p.now}, layers: map[digest.Digest]int64{}}
	var config cacheconfig.CacheConfig
	var layers []ocispecs.Descriptor
	path := ""
	for i, version := range slices.Concat(p.shared, p.variants[variant]) {
		name := fmt.Sprintf("%d.%d", i, version)
		if i >= len(p.shared) {
			name = fmt.Sprintf("%d/%s", variant, name)
		}
		path += " " + name
		b.steps = append(b.steps, name)
		if _, known := p.made[path]; !known || !cached(b.steps) {
			blob := digest.FromString(fmt.Sprint(path, p.r.Uint64()))
			p.made[path] = ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayerZstd, Digest: blob, Size: 1 + p.r.Int64N(1000)}
		}
		layer := p.made[path]
		layers, b.layers[layer.Digest] = append(layers, layer), layer.Size
		config.Layers = append(config.Layers, cacheconfig.CacheLayer{Blob: layer.Digest, ParentIndex: i - 1})
		if i%stage == 0 {
			config.Layers[i].ParentIndex = -1
		}
		record := cacheconfig.CacheRecord{Digest: testkit.RecordDigest(name), Results: []cacheconfig.CacheResult{{LayerIndex: i, CreatedAt: p.now}}}
		if i > 0 {
			record.Inputs = [][]cacheconfig.CacheInput{{{LinkIndex: i - 1}}}
		}
		config.Records = append(config.Records, record)
	}
	b.Result = digest.FromString(path).String()
	return b, cachegraph.Cache{Config: config, Layers: layers}
}

// hits reports whether a cache has a result for each step of a chain.
func hits(t testing.TB, c cachegraph.Cache, steps []string) bool {
	t.Helper()
	lines := []string{steps[0]}
	for i, name := range steps[1:] {
		lines = append(lines, name+": "+steps[i])
	}
	g, keys := newGraph(lines...), storage(t, c)
	return !slices.ContainsFunc(steps, func(name string) bool { return !g.hit(t, keys, name) })
}

// Random sequences of builds of random variants: whatever the limits keep is fully cached, nothing
// else takes space, and repetition adds nothing.
func TestAccumulate(t *testing.T) {
	t.Parallel()
	variantsKept, reverts, dropped := 0, 0, 0
	for seed := range uint64(200) {
		p := newProject(seed)
		limits := cachegraph.Limits{Age: 14 * 24 * time.Hour, Variants: 1 + p.r.IntN(6), Percent: 100, JSON: 1 << 20}
		s := &sequence{limits: limits}
		for range 12 {
			p.now = p.now.Add(time.Duration(p.r.IntN(5*24)) * time.Hour).Add(time.Second)
			if p.r.IntN(3) > 0 {
				p.change()
			}
			b, c := p.build(p.r.IntN(len(p.variants)), func(steps []string) bool { return hits(t, s.cache, steps) })
			s.add(t, b, c)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		variantsKept, reverts, dropped = variantsKept+s.variants, reverts+s.reverts, dropped+s.dropped
	}
	if variantsKept < 200 || reverts < 200 || dropped < 200 {
		t.Errorf("%d other variants kept, %d older builds kept, %d dropped: this test shows little", variantsKept, reverts, dropped)
	}
}

// sequence is the cache that builds leave, one after the other.
type sequence struct {
	limits                     cachegraph.Limits
	cache                      cachegraph.Cache
	all                        []built // the last one of each variant and result, the newest first
	variants, reverts, dropped int
}

func (s *sequence) add(t *testing.T, b built, c cachegraph.Cache) {
	t.Helper()
	out, err := cachegraph.Accumulate(c, b.Build, s.cache, s.limits)
	if err != nil {
		t.Fatal(err)
	}
	if s.cache, err = cachegraph.Parse(out.JSON, out.Layers); err != nil {
		t.Fatal(err)
	}
	s.all = slices.DeleteFunc(s.all, func(old built) bool { return old.Variant == b.Variant && old.Result == b.Result })
	s.all = slices.Insert(s.all, 0, b)
	s.dropped += len(out.Dropped)
	s.check(t, out)
	again, err := cachegraph.Accumulate(c, b.Build, s.cache, s.limits)
	if err != nil || string(again.JSON) != string(out.JSON) {
		t.Errorf("%v: the same build again makes\n%s\nof\n%s", err, again.JSON, out.JSON)
	}
}

// check compares what is kept with the limits.
func (s *sequence) check(t *testing.T, out cachegraph.Accumulated) {
	t.Helper()
	newest := s.all[0]
	named, variants, largest := map[digest.Digest]int64{}, map[string]bool{}, int64(0)
	for _, b := range s.all {
		kept := slices.ContainsFunc(s.cache.Builds, func(k cachegraph.Build) bool { return k.Variant == b.Variant && k.Result == b.Result })
		young := newest.Time.Sub(b.Time) <= s.limits.Age
		if young {
			largest = max(largest, sum(b.layers))
		}
		if !kept {
			// The last build of one other variant always fits.
			if young && len(variants) == 1 && s.limits.Variants > 1 && !variants[b.Variant] {
				t.Errorf("%s of %s is not kept", b.Variant, b.Time)
			}
			variants[b.Variant] = variants[b.Variant] || young
			continue
		}
		switch {
		case !young:
			t.Errorf("%s of %s is kept", b.Variant, b.Time)
		case !variants[b.Variant] && len(variants) > 0:
			s.variants++
		case len(variants) > 0:
			s.reverts++
		}
		variants[b.Variant] = true
		if !hits(t, s.cache, b.steps) {
			t.Errorf("%s of %s is not fully cached", b.Variant, b.Time)
		}
		for d, size := range b.layers {
			named[d] = size
		}
	}
	for _, l := range s.cache.Layers {
		if _, ok := named[l.Digest]; !ok {
			t.Errorf("layer %s belongs to no build that is kept", l.Digest)
		}
	}
	distinct := map[string]bool{}
	for _, b := range s.cache.Builds {
		distinct[b.Variant] = true
	}
	added := sum(named) - sum(newest.layers)
	if len(distinct) > s.limits.Variants || added > largest || added != out.Added {
		t.Errorf("%d variants of %d, %d bytes added (%d reported) of %d", len(distinct), s.limits.Variants, added, out.Added, largest)
	}
}

func sum(sizes map[digest.Digest]int64) (n int64) {
	for _, size := range sizes {
		n += size
	}
	return n
}

// A cache of another program is one build.
func TestAccumulateForeign(t *testing.T) {
	t.Parallel()
	p := newProject(1)
	before, theirs := p.build(0, func([]string) bool { return true })
	p.now = p.now.Add(time.Hour)
	p.shared[0] = 1
	b, ours := p.build(0, func([]string) bool { return true })
	limits := cachegraph.Limits{Age: 2 * time.Hour, Variants: 2, Percent: 100, JSON: 1 << 20}
	foreign := theirs.Foreign(cachegraph.Build{})
	out, err := cachegraph.Accumulate(ours, b.Build, foreign, limits)
	if err != nil || len(out.Builds) != 2 || !hits(t, out.Cache, before.steps) || !hits(t, out.Cache, b.steps) {
		t.Errorf("%+v, %v", out.Builds, err)
	}
	if at := out.Builds[1].Time; !at.Equal(before.Time) {
		t.Errorf("the foreign build is of %s", at)
	}
	for name, limits := range map[string]cachegraph.Limits{
		"age": {Age: time.Minute, Variants: 2, Percent: 100, JSON: 1 << 20}, "bytes": {Age: 2 * time.Hour, Variants: 2, Bytes: 1, JSON: 1 << 20},
		"variants": {Age: 2 * time.Hour, Variants: 1, Percent: 100, JSON: 1 << 20}, "nothing": {JSON: 1 << 20},
		"room": {Age: 2 * time.Hour, Variants: 2, Percent: 100, JSON: len(out.JSON) - 1},
	} {
		out, err := cachegraph.Accumulate(ours, b.Build, foreign, limits)
		if err != nil || len(out.Builds) != 1 || len(out.Dropped) != 1 || hits(t, out.Cache, before.steps) || out.Added != 0 || len(out.JSON) > limits.JSON {
			t.Errorf("%s: %+v, dropped %+v, %v", name, out.Builds, out.Dropped, err)
		}
	}
	limits.JSON = 10
	if _, err := cachegraph.Accumulate(ours, b.Build, foreign, limits); err == nil {
		t.Error("a config of ten bytes")
	}
}

// Builds of the same steps whose results differ, as by a label of the image, are one build. Each has all
// of those before it.
func TestAccumulateRepeated(t *testing.T) {
	t.Parallel()
	p := newProject(1)
	p.variants = append(p.variants[:1], p.variants[0])
	limits := cachegraph.Limits{Age: 24 * time.Hour, Variants: 2, Percent: 100, JSON: 1 << 20}
	other, c := p.build(1, func([]string) bool { return true })
	out, err := cachegraph.Accumulate(c, other.Build, cachegraph.Cache{}, limits)
	if err != nil {
		t.Fatal(err)
	}
	var first, last built
	for i := range 100 {
		p.now = p.now.Add(time.Minute)
		last, c = p.build(0, func([]string) bool { return true })
		if last.Result = fmt.Sprint(i); i == 0 {
			first = last
		}
		if out, err = cachegraph.Accumulate(c, last.Build, out.Cache, limits); err != nil {
			t.Fatal(err)
		}
		if len(out.Builds) != 2 || len(out.Dropped) > 0 || out.Held || !hits(t, out.Cache, other.steps) || !hits(t, out.Cache, last.steps) {
			t.Fatalf("build %d: %+v, dropped %+v, held %t", i, out.Builds, out.Dropped, out.Held)
		}
	}
	for _, b := range []built{first, last} {
		if again, err := cachegraph.Accumulate(c, b.Build, out.Cache, limits); err != nil || !again.Held {
			t.Errorf("build %s is held: %t, %v", b.Result, again.Held, err)
		}
	}
	last.Time = last.Time.Add(time.Minute)
	if again, err := cachegraph.Accumulate(c, last.Build, out.Cache, limits); err != nil || again.Held {
		t.Errorf("a younger build is held: %t, %v", again.Held, err)
	}
}

// Whatever stands in place of the builds, the config is valid: it is of another program.
func TestBuildsDamaged(t *testing.T) {
	t.Parallel()
	for _, builds := range []string{`5`, `"x"`, `[5]`, `[{"time":"x"}]`, `[{"records":"%"}]`, `{}`, `null`} {
		raw := `{"layers":[],"records":[],"builds":` + builds + `}`
		if c, err := cachegraph.Parse([]byte(raw), nil); err != nil || len(c.Builds) != 0 {
			t.Errorf("%s: %+v, %v", raw, c, err)
		}
	}
	many := `{"builds":[` + strings.TrimSuffix(strings.Repeat(`{"time":"2026-01-02T03:04:05Z","records":"/////w=="},`, 200), ",") + `]}`
	c, err := cachegraph.Parse([]byte(many), nil)
	if err != nil || len(c.Builds) != 64 {
		t.Errorf("%d builds, %v", len(c.Builds), err)
	}
	p := newProject(2)
	b, ours := p.build(0, func([]string) bool { return true })
	out, err := cachegraph.Accumulate(ours, b.Build, c, cachegraph.Limits{Age: time.Hour, Variants: 9, Percent: 100, JSON: 1 << 20})
	if err != nil || !hits(t, out.Cache, b.steps) {
		t.Error(err)
	}
}

// BenchmarkAccumulate adds a build of a thousand steps to those of 15 other variants, of which
// some steps are shared.
func BenchmarkAccumulate(b *testing.B) {
	for name, shared := range map[string]int{"most steps shared": 900, "none shared": 0} {
		b.Run(name, func(b *testing.B) {
			p := &project{r: rand.New(rand.NewPCG(1, 11)), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), shared: make([]int, shared), made: map[string]ocispecs.Descriptor{}}
			var former cachegraph.Cache
			var text []byte
			limits := cachegraph.Limits{Age: time.Hour, Variants: 16, Percent: 2000, JSON: 16 << 20}
			var last built
			var c cachegraph.Cache
			for i := range 16 {
				p.variants = append(p.variants, make([]int, 1000-shared))
				last, c = p.build(i, func([]string) bool { return true })
				if i == 15 {
					break
				}
				out, err := cachegraph.Accumulate(c, last.Build, former, limits)
				if err != nil {
					b.Fatal(err)
				}
				former, text = out.Cache, out.JSON
			}
			b.ReportAllocs()
			for b.Loop() {
				former, err := cachegraph.Parse(text, former.Layers)
				if err != nil {
					b.Fatal(err)
				}
				out, err := cachegraph.Accumulate(c, last.Build, former, limits)
				if err != nil || len(out.Builds) != 16 {
					b.Fatalf("%d builds, %v", len(out.Builds), err)
				}
			}
		})
	}
}
