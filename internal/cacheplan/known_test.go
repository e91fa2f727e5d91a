package cacheplan_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// keeping is a cache in a store that has what its manifests name.
type keeping struct{ *memoryCache }

type complete struct{ *testkit.Store }

func (complete) Complete() {}

func (k keeping) Scopes() backends.Scopes     { return complete{k.Store} }
func (k keeping) Destination() backends.Store { return complete{k.Store} }

// with is a cache with another export option.
func with(name, option, value string) *memoryCache {
	c := newMemoryCache(name)
	c.options[option] = value
	return c
}

// madeApp is the result of the build of "app" in main's scope.
var madeApp = [][]digest.Digest{{layerOf("app")}}

// known plans a build, and waits until BuildKit gets its caches.
func known(t *testing.T, r cacheplan.Request, results [][]digest.Digest) (cacheplan.Plan, *cacheplan.Known) {
	t.Helper()
	plan := cacheplan.New(r)
	imports := plan.Reads.Imports(t.Context())
	if r.Gateway != nil && len(imports) == 1 {
		get(t, r.Gateway, "/v2/s0/manifests/scopes")
	}
	return plan, plan.Reads.Known(t.Context(), results)
}

// A build is written without an export where an export would write the same.
func TestMerges(t *testing.T) {
	t.Parallel()
	now, old := time.Now(), time.Now().Add(-25*time.Hour)
	near, far := newMemoryCache("near"), newMemoryCache("far")
	part := testkit.NewGraph("base", "docs: base")
	own := func(c backends.Backend) backends.Reading {
		r := reading(t, part, c, "b-feature")
		r.Manifest.Record.Time = now
		return r
	}
	main := func(c backends.Backend, at time.Time) backends.Reading {
		r := reading(t, steps, c, "b-main")
		r.Manifest.Record.Time = at
		return r
	}
	failed := own(near)
	failed.Err = errors.New("no answer")
	untold := absent(near, "b-feature")
	untold.Err = backends.Withheld("the token may only write")
	for _, test := range []struct {
		name     string
		cache    backends.Backend
		readings []backends.Reading
		change   func(*cacheplan.Request)
		results  [][]digest.Digest
		want     bool
	}{
		{name: "the branch has a part", readings: []backends.Reading{own(near), main(near, now)}, want: true},
		{name: "the branch has nothing", readings: []backends.Reading{absent(near, "b-feature"), main(near, now)}, want: true},
		{name: "main has had it for a day", readings: []backends.Reading{absent(near, "b-feature"), main(near, old)}},
		{name: "a store that keeps it has had it for a day", cache: keeping{near}, readings: []backends.Reading{absent(near, "b-feature"), main(keeping{near}, old)}, want: true},
		{name: "no cache has all of it", readings: []backends.Reading{own(near), main(near, now)}, results: append(madeApp, []digest.Digest{digest.FromString("other")})},
		{name: "another cache has it", readings: []backends.Reading{absent(near, "b-feature"), main(far, now)}},
		{name: "the branch was not read", readings: []backends.Reading{main(near, now)}},
		{name: "the branch could not be read", readings: []backends.Reading{failed, main(near, now)}},
		{name: "the branch may not be read", readings: []backends.Reading{untold, main(near, now)}},
		{name: "mode min", cache: with("near", "mode", "min"), readings: []backends.Reading{own(near), main(near, now)}},
		{name: "forced compression", cache: with("near", "force-compression", "true"), readings: []backends.Reading{own(near), main(near, now)}},
		{name: "an index", cache: with("near", "image-manifest", "false"), readings: []backends.Reading{own(near), main(near, now)}},
		{name: "Docker's media types", cache: with("near", "oci-mediatypes", "false"), readings: []backends.Reading{own(near), main(near, now)}},
		{name: "a remote builder", readings: []backends.Reading{own(near), main(near, now)}, change: func(r *cacheplan.Request) { r.Gateway = nil }},
		{name: "nothing is kept of former builds", readings: []backends.Reading{own(near), main(near, now)}, change: func(r *cacheplan.Request) { r.Keep = cacheplan.Limits{} }},
		{name: "a line of cache-from", readings: []backends.Reading{own(near), main(near, now)}, change: func(r *cacheplan.Request) {
			r.From = lines(t, cachespec.From, "type=registry,ref=127.0.0.1:1/o/app")
		}},
	} {
		cache := test.cache
		if cache == nil {
			cache = near
		}
		for i := range test.readings {
			if test.readings[i].From == near {
				test.readings[i].From = cache
			}
		}
		r := cacheplan.Request{Caches: []backends.Backend{cache}, Await: found(test.readings), Scopes: feature, Keep: keeps, Gateway: testkit.Gateway(t)}
		if test.change != nil {
			test.change(&r)
		}
		if test.results == nil {
			test.results = madeApp
		}
		plan, k := known(t, r, test.results)
		if got := plan.Destinations()[0].Merge(made, k) != nil; got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// Where a blob is lost, nothing is known: BuildKit may have got the step otherwise.
func TestLostIsNotKnown(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"", "app", "deps", "docs"} {
		c := newMemoryCache("near")
		m, _, blobs := steps.Cache(t, "b-main")
		for d, content := range blobs {
			c.Set(d, content)
		}
		if lost != "" {
			c.Set(layerOf(lost), nil)
		}
		if err := c.PutManifest(t.Context(), "b-main", m); err != nil {
			t.Fatal(err)
		}
		readings := backends.Read(t.Context(), []backends.Backend{c}, feature, time.Minute)
		_, k := known(t, cacheplan.Request{Caches: []backends.Backend{c}, Await: found(readings), Scopes: feature, Keep: keeps, Gateway: testkit.Gateway(t)}, madeApp)
		if got := k != nil; got != (lost == "") {
			t.Errorf("without %q: %t", lost, got)
		}
	}
}

// A merge has what the build used of all scopes, with the build's own record and with what the scope had.
// When another build has written the scope meanwhile, the scope has that, too. Another label of the same
// steps is then no other build.
func TestMerge(t *testing.T) {
	t.Parallel()
	for _, meanwhile := range []bool{false, true} {
		c, at := newMemoryCache("near"), time.Now().Add(-time.Minute).Truncate(time.Second)
		own, main := reading(t, testkit.NewGraph("base", "docs: base"), c, "b-feature"), reading(t, steps, c, "b-main")
		own.Manifest.Record, main.Manifest.Record = backends.Record{Time: at, Result: "sha256:01"}, backends.Record{Time: at, Result: "sha256:02"}
		put := func(m backends.Manifest, config []byte) {
			c.Set(m.Config.Digest, config)
			if err := c.PutManifest(t.Context(), "b-feature", m); err != nil {
				t.Fatal(err)
			}
		}
		put(own.Manifest, own.Config)
		own.Manifest.Version = own.Manifest.Descriptor().Digest.String()
		want := named("base by b-feature", "docs by b-feature", "deps by b-main", "app by b-main")
		if meanwhile {
			m, config, _ := testkit.NewGraph("base", "other: base").Cache(t, "other")
			m, err := m.WithRecord(backends.Record{Time: at, Result: "sha256:03"})
			if err != nil {
				t.Fatal(err)
			}
			put(m, config)
			want = named("base by b-feature", "other by other", "deps by b-main", "app by b-main")
		}
		request := cacheplan.Request{
			Caches: []backends.Backend{c}, Await: found([]backends.Reading{own, main}), Scopes: feature, Keep: keeps, Variant: "v",
			Record: backends.Record{Branch: "feature"}, Gateway: testkit.Gateway(t),
		}
		plan, k := known(t, request, madeApp)
		if plan.Destinations()[0].Holds(made, k) {
			t.Error("the scope holds what it lacks")
		}
		if errs := outcomes(plan.Destinations()[0].Merge(made, k)(t.Context())); errs[0] != nil {
			t.Fatal(errs[0])
		}
		got, err := c.Manifest(t.Context(), "b-feature")
		if err != nil {
			t.Fatal(err)
		}
		layers := map[digest.Digest]bool{}
		for _, l := range got.Layers {
			layers[l.Digest] = true
		}
		for _, d := range want {
			if !layers[d] {
				t.Errorf("meanwhile %t: %d layers without %s", meanwhile, len(layers), d)
			}
		}
		if layers[layerOf("docs")] {
			t.Error("the scope has main's step of another target")
		}
		// Nothing has renewed the blobs, so the build is as old as main's.
		if r := got.Record; r.Branch != "feature" || r.Hits != 2 || !r.Time.Equal(at) {
			t.Errorf("meanwhile %t: the record is %+v", meanwhile, r)
		}
		if !meanwhile {
			holds(t, request, got)
		}
	}
}

// holds checks that a scope, which a build has written, holds other images of the same steps, and no more.
func holds(t *testing.T, r cacheplan.Request, written backends.Manifest) {
	t.Helper()
	c := r.Caches[0].(*memoryCache)
	config, err := backends.ReadBlob(t.Context(), c, written.Config, backends.MaxConfig)
	if err != nil {
		t.Fatal(err)
	}
	reading := backends.Reading{Source: scope.Source{Name: "b-feature"}, From: c, Manifest: written, Config: config}
	r.Await = found([]backends.Reading{reading})
	for _, test := range []struct {
		name, variant string
		results       [][]digest.Digest
		change        string
		want          bool
	}{
		{"the same steps", "v", madeApp, "", true},
		{"another variant", "w", madeApp, "", false},
		{"some of the steps", "v", [][]digest.Digest{{layerOf("deps")}}, "", false},
		{"other steps", "v", append(slices.Clone(madeApp), named("docs by b-feature")), "", false},
		{"another mode", "v", madeApp, "min", false},
	} {
		r, cache := r, *c
		if r.Variant = test.variant; test.change != "" {
			cache.options = maps.Clone(c.options)
			cache.options["mode"] = test.change
			other := reading
			other.From = &cache
			r.Caches, r.Await = []backends.Backend{&cache}, found([]backends.Reading{other})
		}
		r.Gateway = testkit.Gateway(t)
		plan, k := known(t, r, test.results)
		other := cacheplan.Exported{Content: "sha256:07", Hits: 2, Steps: 2}
		if got := plan.Destinations()[0].Holds(other, k); k == nil || got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// named are the digests of contents.
func named(contents ...string) (all []digest.Digest) {
	for _, c := range contents {
		all = append(all, digest.FromString(c))
	}
	return all
}
