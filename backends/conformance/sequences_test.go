package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestSequences builds random variants of a changing app, one after the other and days apart, each
// with an empty builder: what the limits keep is fully cached, and nothing else takes space.
//
// The sequences follow from a seed, which the test logs and WARMLAYER_SEED repeats.
func TestSequences(t *testing.T) {
	t.Parallel()
	seed := testkit.Seed(t)
	stores := []func(*testing.T) store{repositories(t, "registry"), directories(t)}
	for i := range testkit.Long(2, 5) {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			s := newSequence(t, rand.New(rand.NewPCG(seed, uint64(i))), stores[i/2%2](t), []int{1000, 100}[i%2])
			for range testkit.Long(5, 8) {
				s.step(t)
			}
		})
	}
}

// sequence is a cache, and what builds have left in it.
type sequence struct {
	r        *rand.Rand
	app      string
	file     string // content of a file of the app
	c        store
	variants int // limit of the cache, as the next one
	percent  int
	keys     map[string]buildKey // of each build by its flags and files
}

// buildKey tells the builds of a scope apart.
type buildKey struct{ variant, result string }

// keepAge is the default of cache-keep-age.
const keepAge = 14 * 24 * time.Hour

func newSequence(t *testing.T, r *rand.Rand, c store, percent int) *sequence {
	t.Helper()
	s := &sequence{r: r, app: several(t), c: c, variants: 2 + r.IntN(2), percent: percent, keys: map[string]buildKey{}}
	testkit.Write(t, filepath.Join(s.app, "Dockerfile"), heavyFile)
	t.Logf("%s: %d variants, %d %%", c.line, s.variants, s.percent)
	return s
}

// heavyFile has steps whose layers are larger than the base.
const heavyFile = `FROM scratch AS deps
ADD rootfs.tar /
ARG V=0
RUN head -c 2000000 /dev/urandom > /deps
FROM deps AS build
COPY site site
RUN head -c 2000000 /dev/urandom > /index.html
`

// step lets days pass, changes or reverts a file, and builds a variant.
func (s *sequence) step(t *testing.T) {
	t.Helper()
	days := max(0, s.r.IntN(15)-5)
	passed(t, s.c, days)
	if s.file == "" || s.r.IntN(3) == 0 {
		s.file = fmt.Sprintf("Text %d\n", s.r.IntN(2))
	}
	v := matrix[s.r.IntN(3)]
	what := fmt.Sprint(v, s.file)
	if v.target == "deps" {
		what = fmt.Sprint(v)
	}
	testkit.Write(t, filepath.Join(s.app, "site", "index.txt"), s.file)
	before := held(t, s.c)
	key, known := s.keys[what]
	present := known && slices.ContainsFunc(before, func(b kept) bool { return b.buildKey == key })
	out := suite{}.run(t, s.c, s.app, "main", append(v.ours(), "--cache-keep-variants", strconv.Itoa(s.variants),
		"--cache-keep-size", fmt.Sprintf("%d%%", s.percent))...).Build(t)
	after := held(t, s.c)
	t.Logf("%d days later %q: present %t, %d of %d cached, %s, %d builds of %d",
		days, what, present, out.Cached(), len(out.Steps), out.Outcome(t), len(after), len(before))
	if present && out.Cached() != len(out.Steps) {
		t.Errorf("%q is in the scope, and %d of %d steps are cached", what, out.Cached(), len(out.Steps))
	}
	if out.Outcome(t) == "unchanged" {
		if !present || days > 1 {
			t.Errorf("%q was not written", what)
		}
		return
	}
	s.keys[what] = after[0].buildKey
	s.check(t, before, after)
}

// check compares what a build has kept of the builds before it with the limits.
func (s *sequence) check(t *testing.T, before, after []kept) {
	t.Helper()
	newest := after[0]
	slices.SortStableFunc(before, func(a, b kept) int { return b.Time.Compare(a.Time) })
	variants, largest := map[string]bool{newest.variant: true}, newest.bytes(nil)
	want := 1
	for _, b := range before {
		isKept := slices.ContainsFunc(after, func(k kept) bool { return k.buildKey == b.buildKey })
		switch {
		case b.buildKey == newest.buildKey:
			continue
		case newest.Time.Sub(b.Time) > keepAge, !variants[b.variant] && len(variants) == s.variants:
			if isKept {
				t.Errorf("%+v of %s is kept", b.buildKey, b.Time)
			}
			continue
		}
		// Some sizes have room for all, and each for the last build of one other variant.
		if first := len(variants) == 1 && b.variant != newest.variant; !isKept && (s.percent == 1000 || first) {
			t.Errorf("%+v of %s is not kept", b.buildKey, b.Time)
		}
		if isKept {
			largest = max(largest, b.bytes(nil))
			want++
		}
		variants[b.variant] = true
	}
	if len(after) != want {
		t.Errorf("%d builds are in the scope, %d of them known", len(after), want)
	}
	named, added := newest.layers, int64(0)
	for _, b := range after[1:] {
		added += b.bytes(named)
		named = append(slices.Clone(named), b.layers...)
	}
	if limit := largest * int64(s.percent) / 100; added > limit {
		t.Errorf("former builds add %d bytes, at most %d are allowed", added, limit)
	}
	for _, l := range s.c.manifest(t, "b-main").Layers {
		if !slices.ContainsFunc(named, func(n layer) bool { return n.digest == l.Digest }) {
			t.Errorf("layer %s belongs to no build", l.Digest)
		}
	}
}

// kept is a build in a scope.
type kept struct {
	buildKey
	cachegraph.Build
	layers []layer
}

type layer struct {
	digest digest.Digest
	size   int64
}

// bytes are those of the layers that are not among others.
func (k kept) bytes(others []layer) (n int64) {
	for _, l := range k.layers {
		if !slices.Contains(others, l) {
			n += l.size
		}
	}
	return n
}

// config is the scope's cache config; nil: it has no cache yet.
func config(t *testing.T, c store) ([]byte, backends.Manifest) {
	t.Helper()
	m, err := c.scopes(t).Manifest(t.Context(), "b-main")
	if err != nil {
		return nil, m
	}
	raw, err := backends.ReadBlob(t.Context(), c.scopes(t), m.Config, backends.MaxConfig)
	if err != nil {
		t.Fatal(err)
	}
	return raw, m
}

// held are the builds in the scope, the newest first.
func held(t *testing.T, c store) (all []kept) {
	t.Helper()
	raw, m := config(t, c)
	if raw == nil {
		return nil
	}
	sizes := map[digest.Digest]int64{}
	for _, l := range m.Layers {
		sizes[l.Digest] = l.Size
	}
	var doc cachegraph.Document
	var uses []struct{ Records []byte }
	err := json.Unmarshal(raw, &doc)
	if err == nil {
		err = json.Unmarshal(doc.Builds, &uses)
	}
	if err != nil {
		t.Fatal(err)
	}
	for n, b := range cachegraph.Builds(raw) {
		k := kept{buildKey: buildKey{b.Variant, b.Result}, Build: b}
		for i, r := range doc.Records {
			if uses[n].Records[i/8]&(1<<(i%8)) == 0 {
				continue
			}
			for _, result := range r.Results {
				for at := result.LayerIndex; at >= 0; at = doc.Layers[at].ParentIndex {
					if l := (layer{doc.Layers[at].Blob, sizes[doc.Layers[at].Blob]}); !slices.Contains(k.layers, l) {
						k.layers = append(k.layers, l)
					}
				}
			}
		}
		all = append(all, k)
	}
	return all
}

// passed makes the builds in the scope older.
func passed(t *testing.T, c store, days int) {
	t.Helper()
	raw, m := config(t, c)
	if raw == nil || days == 0 {
		return
	}
	var doc map[string]json.RawMessage
	var builds []map[string]any
	err := json.Unmarshal(raw, &doc)
	if err == nil {
		err = json.Unmarshal(doc["builds"], &builds)
	}
	for i, b := range cachegraph.Builds(raw) {
		builds[i]["time"] = b.Time.AddDate(0, 0, -days)
	}
	if err == nil {
		doc["builds"], err = json.Marshal(builds)
	}
	if err == nil {
		raw, err = json.Marshal(doc)
	}
	if err == nil {
		m, err = m.With(raw, m.Layers)
	}
	scopes := c.scopes(t)
	if err == nil {
		err = scopes.(backends.Store).Put(t.Context(), m.Config, bytes.NewReader(raw))
	}
	if err == nil {
		err = scopes.PutManifest(t.Context(), "b-main", m)
	}
	if err != nil {
		t.Fatal(err)
	}
}
