package cachegraph_test

import (
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/cachegraph"
)

// FuzzParse: a config is valid when BuildKit's parser takes it.
func FuzzParse(f *testing.F) {
	for seed := range uint64(20) {
		raw, _ := document(f, randomConfig(rand.New(rand.NewPCG(seed, 3)), 6))
		f.Add(raw)
	}
	f.Add([]byte(`{"records":[{"digest":"random:1"},{"digest":"b","inputs":[[{"link":0}]]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var config cacheconfig.CacheConfig
		if len(raw) > 4096 || json.Unmarshal(raw, &config) != nil {
			return
		}
		sameAsBuildKit(t, raw, descriptors(config, func(d digest.Digest) bool { return !strings.HasSuffix(string(d), "0") }))
	})
}

// drawn are the decisions of a random config, drawn from bytes, four each. After the last byte
// they are those of a sequence that does not repeat.
type drawn struct {
	rest  []byte
	after uint64
}

// Uint64 implements [rand.Source].
func (d *drawn) Uint64() uint64 {
	if len(d.rest) < 4 {
		d.after += 0x9e3779b97f4a7c15 // SplitMix64's step
		return d.after
	}
	n := binary.BigEndian.Uint32(d.rest)
	d.rest = d.rest[4:]
	return uint64(n) << 32 // the half of which math/rand/v2 makes small numbers
}

// FuzzMerge merges caches, of which some have lost layers. The merge has every result that one of
// them has, it is one that BuildKit imports, and its work, its memory and its size are bounded.
func FuzzMerge(f *testing.F) {
	for seed := range uint64(24) {
		r := rand.New(rand.NewPCG(seed, 11))
		var all [3][]byte
		for i := range all {
			all[i] = make([]byte, 40*r.IntN(20))
			for k := range all[i] {
				all[i][k] = byte(r.UintN(256))
			}
		}
		f.Add(all[0], all[1], all[2], uint8(seed))
	}
	f.Fuzz(func(t *testing.T, one, two, three []byte, size uint8) {
		var caches []cachegraph.Cache
		bytes := 0
		for i, text := range [][]byte{one, two, three} {
			config := randomConfig(rand.New(&drawn{rest: text}), 2+int(size)%64)
			raw, layers := document(t, config)
			if i == 1 {
				layers = descriptors(config, func(d digest.Digest) bool { return !strings.HasSuffix(string(d), "0") })
			}
			if c, err := cachegraph.Parse(raw, layers); err == nil {
				caches, bytes = append(caches, c), bytes+len(raw)
			}
		}
		links, bound, err := cachegraph.Work(caches)
		if links > bound || err != nil && !cachegraph.Harmful(err) {
			t.Fatalf("%d links of %d, %v", links, bound, err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := cachegraph.MergeWithin(caches, 1<<20)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > uint64(2<<20+100*bytes) {
			t.Errorf("%d bytes of configs take %d bytes of memory", bytes, used)
		}
		if len(out.JSON) > 1<<20 || len(out.JSON) > 200+2*bytes {
			t.Errorf("%d bytes of configs become %d", bytes, len(out.JSON))
		}
		storage(t, out.Cache)
		if len(out.Refused) > 0 {
			return // it was too large
		}
		has := withResults(out.Cache)
		for i, c := range caches {
			for d := range withResults(c) {
				if !has[d] {
					t.Errorf("the result of %s in cache %d is lost", d, i)
				}
			}
		}
		again, err := cachegraph.MergeWithin(caches, 1<<20)
		if err != nil || string(again.JSON) != string(out.JSON) {
			t.Errorf("the same caches give %s and %s, %v", out.JSON, again.JSON, err)
		}
	})
}

// withResults are the records of a cache that a build can use: those with a result of which all
// layers have a descriptor.
func withResults(c cachegraph.Cache) map[digest.Digest]bool {
	known := map[digest.Digest]bool{}
	for _, l := range c.Layers {
		known[l.Digest] = true
	}
	whole := func(i int) bool {
		for ; i >= 0; i = c.Config.Layers[i].ParentIndex {
			if !known[c.Config.Layers[i].Blob] {
				return false
			}
		}
		return true
	}
	found := map[digest.Digest]bool{}
	for _, r := range c.Config.Records {
		for _, result := range r.Results {
			if !strings.HasPrefix(string(r.Digest), "random:") && whole(result.LayerIndex) {
				found[r.Digest] = true
			}
		}
	}
	return found
}

// FuzzFit reduces a cache to a size. The part is never larger, it is one that BuildKit imports, and
// a larger part has all that a smaller one has.
func FuzzFit(f *testing.F) {
	for seed := range uint64(24) {
		r := rand.New(rand.NewPCG(seed, 13))
		text := make([]byte, 40*r.IntN(20))
		for k := range text {
			text[k] = byte(r.UintN(256))
		}
		f.Add(text, uint8(seed), uint16(100*seed), byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint8, limit uint16, gone byte) {
		raw, layers := document(t, randomConfig(rand.New(&drawn{rest: text}), 2+int(size)%64))
		if _, err := cachegraph.Parse(raw, layers); err != nil {
			return
		}
		lost := map[digest.Digest]bool{}
		for i, l := range layers {
			if i%8 == int(gone)%9 {
				lost[l.Digest] = true
			}
		}
		last := map[digest.Digest]bool{}
		for _, most := range []int{int(limit) / 2, int(limit), 1 << 20} {
			out, err := cachegraph.Fit(raw, layers, lost, most)
			if err != nil {
				t.Fatal(err)
			}
			if empty := len(out.Config.Records) == 0; len(out.JSON) > most && !empty {
				t.Errorf("%d bytes, and at most %d are wanted", len(out.JSON), most)
			}
			storage(t, out.Cache)
			for _, l := range out.Layers {
				if lost[l.Digest] {
					t.Errorf("the lost layer %s is in the cache", l.Digest)
				}
			}
			for d := range last {
				if !withResults(out.Cache)[d] {
					t.Errorf("%s is not in a part of %d bytes, and in a smaller one", d, most)
				}
			}
			last = withResults(out.Cache)
			var config cacheconfig.CacheConfig
			if err := json.Unmarshal(out.JSON, &config); err != nil || len(config.Records) != len(out.Config.Records) {
				t.Errorf("%s: %v", out.JSON, err)
			}
		}
	})
}
