package cachegraph_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	cacheimport "github.com/moby/buildkit/cache/remotecache/v1"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/cachegraph"
)

// document is a config as JSON, and descriptors of all its layers.
func document(t testing.TB, config cacheconfig.CacheConfig) ([]byte, []ocispecs.Descriptor) {
	t.Helper()
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return raw, descriptors(config, func(digest.Digest) bool { return true })
}

// descriptors are those of the config's layers that are kept, each once.
func descriptors(config cacheconfig.CacheConfig, keep func(digest.Digest) bool) []ocispecs.Descriptor {
	var all []ocispecs.Descriptor
	seen := map[digest.Digest]bool{}
	for _, l := range config.Layers {
		if !seen[l.Blob] && keep(l.Blob) {
			seen[l.Blob] = true
			all = append(all, ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayerGzip, Digest: l.Blob, Size: 1})
		}
	}
	return all
}

func blobOf(i int) digest.Digest { return digest.FromString(fmt.Sprint("layer ", i)) }
func stepOf(i int) digest.Digest { return digest.FromString(fmt.Sprint("step ", i)) }

// tower has the given number of results on one chain of layers.
func tower(results, layers int) cacheconfig.CacheConfig {
	var config cacheconfig.CacheConfig
	for i := range layers {
		config.Layers = append(config.Layers, cacheconfig.CacheLayer{Blob: blobOf(i), ParentIndex: i - 1})
	}
	for i := range results {
		config.Records = append(config.Records, cacheconfig.CacheRecord{
			Digest: stepOf(i), Results: []cacheconfig.CacheResult{{LayerIndex: layers - 1, CreatedAt: time.Unix(int64(i), 0).UTC()}},
		})
	}
	return config
}

// A config whose results expand to 15 million layers makes BuildKit's importer take 40 s and
// 12 GB. It is read without expanding it, and refused.
func TestTower(t *testing.T) {
	t.Parallel()
	raw, layers := document(t, tower(3000, 5000))
	if len(raw) > 1<<20 {
		t.Fatalf("%d bytes: BuildKit would not import it", len(raw))
	}
	_, err := cachegraph.Parse(raw, layers)
	if !errors.Is(err, cachegraph.ErrTooLarge) || !strings.Contains(err.Error(), "15000000 layers in its results") {
		t.Errorf("error %v", err)
	}
	var config cacheconfig.CacheConfig
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	if links, err := cachegraph.Chains(cachegraph.Cache{Config: config, Layers: layers}); err != nil || links != 5000 {
		t.Errorf("%d links of chains in memory, %v", links, err)
	}
	// What remains of it after an export is within the bounds.
	out, err := cachegraph.Fit(raw, layers, nil, 1<<20)
	if err != nil || out.Dropped != 3000-cachegraph.MaxExpanded/5000 {
		t.Fatalf("%d results left out, %v", out.Dropped, err)
	}
	if _, err := cachegraph.Parse(out.JSON, out.Layers); err != nil {
		t.Error(err)
	}
}

// Configs that are small and costly are refused, or read, with bounded work.
func TestBounds(t *testing.T) {
	t.Parallel()
	many := func(text string, n int) string { return strings.TrimSuffix(strings.Repeat(text+",", n), ",") }
	link := func(i int) string { return fmt.Sprintf(`{"link":%d}`, i) }
	var numbers []string
	for i := range 30_000 {
		numbers = append(numbers, link(i))
	}
	for name, test := range map[string]struct {
		config  string
		refused bool
	}{
		"empty records":         {`{"records":[` + many(`{}`, 340_000) + `]}`, true},
		"empty layers":          {`{"layers":[` + many(`{}`, 340_000) + `]}`, true},
		"elements":              {`{"records":[{"digest":"a","results":[` + many(`{"layer":0}`, 600_000) + `]}]}`, true},
		"equal records":         {`{"records":[` + many(`{"digest":"a"}`, 50_000) + `]}`, false},
		"equal links":           {`{"records":[{"digest":"a"},{"digest":"b","inputs":[[` + many(link(0), 90_000) + `]]}]}`, false},
		"results of one record": {`{"layers":[{"blob":"x","parent":-1}],"records":[{"digest":"a","results":[` + many(`{"layer":0}`, 80_000) + `]}]}`, false},
		"one input with all": {`{"records":[` + many(`{"digest":"a","inputs":[]}`, 30_000) + `,{"digest":"b","inputs":[[` +
			strings.Join(numbers, ",") + `]]}]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := cachegraph.Parse([]byte(test.config), []ocispecs.Descriptor{{Digest: "x"}})
			if test.refused != errors.Is(err, cachegraph.ErrTooLarge) || !test.refused && err != nil {
				t.Fatal(err)
			}
			if links, bound, err := cachegraph.Work([]cachegraph.Cache{c, c}); err != nil || links > bound {
				t.Errorf("%d links, %v", links, err)
			}
		})
	}
}

// Records that have a key in common and still do not match have to be compared pair by
// pair. A merge gives up before that takes long, and keeps the nearer caches.
func TestBoundsOfMerge(t *testing.T) {
	t.Parallel()
	var config cacheconfig.CacheConfig
	const steps = 5000
	for i := range steps {
		config.Records = append(config.Records, cacheconfig.CacheRecord{Digest: stepOf(i)})
	}
	for i := range steps {
		config.Records = append(config.Records, cacheconfig.CacheRecord{
			Digest: stepOf(-1), Inputs: [][]cacheconfig.CacheInput{{{LinkIndex: 0}}, {{LinkIndex: i}}},
		})
	}
	raw, layers := document(t, config)
	hostile, err := cachegraph.Parse(raw, layers)
	if err != nil {
		t.Fatal(err)
	}
	if links, bound, err := cachegraph.Work([]cachegraph.Cache{hostile}); !errors.Is(err, cachegraph.ErrTooLarge) || links > bound+2*steps {
		t.Errorf("%d links, %v", links, err)
	}
	near := newGraph("base", "x: base").cache(t, "me")
	out, err := cachegraph.MergeWithin([]cachegraph.Cache{near, hostile}, 1<<20)
	if err != nil || out.Caches != 1 || len(out.Config.Records) != 2 || !errors.Is(out.Refused[0], cachegraph.ErrTooLarge) {
		t.Errorf("%d caches, refused %v, %v", out.Caches, out.Refused, err)
	}
	out, err = cachegraph.MergeWithin([]cachegraph.Cache{hostile}, 1<<20)
	if err != nil || out.Caches != 0 || string(out.JSON) != "{}" || !errors.Is(out.Refused[0], cachegraph.ErrTooLarge) {
		t.Errorf("%d caches, %s, refused %v, %v", out.Caches, out.JSON, out.Refused, err)
	}
}

// randomConfig is a config that is often valid: its links and parents mostly lead to what was
// written before.
func randomConfig(r *rand.Rand, size int) cacheconfig.CacheConfig {
	var config cacheconfig.CacheConfig
	index := func(n int) int {
		if r.IntN(40*size) == 0 {
			return r.IntN(size+3) - 1
		}
		return r.IntN(max(n, 1))
	}
	for i := range size {
		config.Layers = append(config.Layers, cacheconfig.CacheLayer{Blob: blobOf(r.IntN(size)), ParentIndex: index(i+1) - 1})
	}
	for i := range size {
		step := r.IntN(size)
		if i == 0 {
			step = 0 // it has no inputs
		}
		record := cacheconfig.CacheRecord{Digest: stepOf(step)}
		inputs := step % 3
		if i > 0 && r.IntN(40*size) == 0 {
			inputs = r.IntN(3)
		}
		if r.IntN(20*size) == 0 {
			record.Digest = "random:1"
		}
		for range inputs {
			var input []cacheconfig.CacheInput
			for range 1 + r.IntN(2) {
				input = append(input, cacheconfig.CacheInput{LinkIndex: index(i), Selector: strings.Repeat("/", r.IntN(2))})
			}
			record.Inputs = append(record.Inputs, input)
		}
		for range r.IntN(3) {
			record.Results = append(record.Results, cacheconfig.CacheResult{LayerIndex: index(size), CreatedAt: time.Unix(r.Int64N(5), 0).UTC()})
		}
		if r.IntN(4) == 0 {
			record.ChainedResults = append(record.ChainedResults, cacheconfig.ChainedResult{LayerIndexes: []int{index(size), index(size)}})
		}
		config.Records = append(config.Records, record)
	}
	return config
}

// Parse finds the same configs to be valid as BuildKit does, and the merge of random configs
// is valid and stays within the bound of its work.
func TestParseAsBuildKit(t *testing.T) {
	t.Parallel()
	valid := 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 7))
		config := randomConfig(r, 2+r.IntN(12))
		raw, _ := document(t, config)
		if sameAsBuildKit(t, raw, descriptors(config, func(digest.Digest) bool { return r.IntN(5) > 0 })) {
			valid++
		}
	}
	if valid < 1000 || valid > 2900 {
		t.Errorf("%d of 3000 configs are valid, so this test shows little", valid)
	}
}

// Records of one digest with different numbers of inputs are refused, in one config and in a merge.
func TestContradicts(t *testing.T) {
	t.Parallel()
	in := func(n ...int) []cacheconfig.CacheInput {
		var links []cacheconfig.CacheInput
		for _, i := range n {
			links = append(links, cacheconfig.CacheInput{LinkIndex: i})
		}
		return links
	}
	record := func(step int, inputs ...[]cacheconfig.CacheInput) cacheconfig.CacheRecord {
		return cacheconfig.CacheRecord{Digest: stepOf(step), Inputs: inputs}
	}
	one := cacheconfig.CacheConfig{Records: []cacheconfig.CacheRecord{record(0), record(1, in(0), in(0))}}
	other := cacheconfig.CacheConfig{Records: []cacheconfig.CacheRecord{record(0), record(1, in(0))}}
	both := cacheconfig.CacheConfig{Records: []cacheconfig.CacheRecord{record(0), record(1, in(0), in(0)), record(1, in(0, 1))}}
	parse := func(c cacheconfig.CacheConfig) (cachegraph.Cache, error) {
		raw, _ := document(t, c)
		return cachegraph.Parse(raw, nil)
	}
	if _, err := parse(both); !errors.Is(err, cachegraph.ErrContradicts) {
		t.Errorf("one config: %v", err)
	}
	first, errFirst := parse(one)
	second, errSecond := parse(other)
	if err := errors.Join(errFirst, errSecond); err != nil {
		t.Fatal(err)
	}
	out, err := cachegraph.MergeWithin([]cachegraph.Cache{first, second}, 1<<20)
	if err != nil || out.Caches != 1 || !errors.Is(out.Refused[0], cachegraph.ErrContradicts) {
		t.Errorf("a merge of %d caches, refused %v, %v", out.Caches, out.Refused, err)
	}
}

// sameAsBuildKit reports whether a config is valid.
func sameAsBuildKit(t testing.TB, raw []byte, layers []ocispecs.Descriptor) bool {
	t.Helper()
	c, err := cachegraph.Parse(raw, layers)
	if cachegraph.Harmful(err) {
		return false
	}
	provider := cacheimport.DescriptorProvider{}
	for _, l := range layers {
		provider[l.Digest] = cacheimport.DescriptorProviderPair{Descriptor: l}
	}
	if theirs := cacheimport.Parse(raw, provider, cacheimport.NewCacheChains()); (err == nil) != (theirs == nil) {
		t.Fatalf("%s: %v, and BuildKit %v", raw, err, theirs)
	}
	if err != nil {
		return false
	}
	out, err := cachegraph.MergeWithin([]cachegraph.Cache{c, c}, 1<<20)
	if err != nil || out.Caches == 0 {
		t.Fatalf("%s: merge of %d caches: %v %v", raw, out.Caches, out.Refused, err)
	}
	storage(t, out.Cache)
	for _, limit := range []int{len(out.JSON) / 2, 1 << 20} {
		fitted, err := cachegraph.Fit(raw, layers, nil, limit)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if _, err := cachegraph.Parse(fitted.JSON, fitted.Layers); err != nil {
			t.Fatalf("%s within %d bytes: %s: %v", raw, limit, fitted.JSON, err)
		}
	}
	return true
}
