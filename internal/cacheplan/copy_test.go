package cacheplan_test

import (
	"errors"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

var (
	feature = scope.Plan{Write: "b-feature", Read: []scope.Source{{Name: "b-feature"}, {Name: "b-main"}}}
	made    = cacheplan.Exported{Content: "sha256:00", Hits: 2, Steps: 2}
	keeps   = cacheplan.Limits{Age: time.Hour, Variants: 4, Percent: 100}
)

// recorded is the reading of a scope that the build with the content has written last.
func recorded(t *testing.T, c *memoryCache, n scope.Name, content string, at time.Time) backends.Reading {
	t.Helper()
	r := reading(t, app, c, n)
	r.Manifest.Record = backends.Record{Time: at, Result: backends.ResultKey(c.Options(), content)}
	return r
}

func absent(c *memoryCache, n scope.Name) backends.Reading {
	return backends.Reading{Source: scope.Source{Name: n}, From: c, Err: backends.ErrAbsent}
}

// The first build of a branch copies the cache of a scope that has the same build.
func TestCopies(t *testing.T) {
	t.Parallel()
	near, far := newMemoryCache("near"), newMemoryCache("far")
	now := time.Now()
	main := recorded(t, near, "b-main", made.Content, now)
	lost := main
	lost.Err = backends.ErrGone
	for _, test := range []struct {
		name     string
		caches   []backends.Backend
		readings []backends.Reading
		keep     cacheplan.Limits
		want     bool
	}{
		{"main has it", []backends.Backend{near}, []backends.Reading{absent(near, "b-feature"), main}, keeps, true},
		{"main has another build", []backends.Backend{near}, []backends.Reading{absent(near, "b-feature"), recorded(t, near, "b-main", "sha256:01", now)}, keeps, false},
		{"main has had it for a day", []backends.Backend{near}, []backends.Reading{absent(near, "b-feature"), recorded(t, near, "b-main", made.Content, now.Add(-25*time.Hour))}, keeps, false},
		{"main has lost blobs", []backends.Backend{near}, []backends.Reading{absent(near, "b-feature"), lost}, keeps, false},
		{"the branch has another build", []backends.Backend{near}, []backends.Reading{recorded(t, near, "b-feature", "sha256:01", now), main}, keeps, false},
		{"the branch was not read", []backends.Backend{near}, []backends.Reading{main}, keeps, false},
		{"nothing is kept of former builds", []backends.Backend{near}, []backends.Reading{absent(near, "b-feature"), main}, cacheplan.Limits{}, false},
		{"one of two caches has it", []backends.Backend{near, far}, []backends.Reading{absent(near, "b-feature"), absent(far, "b-feature"), main, absent(far, "b-main")}, keeps, false},
		{"another cache has it", []backends.Backend{far}, []backends.Reading{absent(far, "b-feature"), main}, keeps, false},
	} {
		d := cacheplan.New(cacheplan.Request{
			Caches: test.caches, Await: found(test.readings), Scopes: feature, Keep: test.keep, Gateway: testkit.Gateway(t),
		}).Destinations()[0]
		if got := d.Copy(made) != nil; got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// A copy has the build's own record. When another build has written the scope meanwhile, the scope has
// both.
func TestCopy(t *testing.T) {
	t.Parallel()
	for _, meanwhile := range []bool{false, true} {
		c := newMemoryCache("near")
		main := recorded(t, c, "b-main", made.Content, time.Now())
		d := cacheplan.New(cacheplan.Request{
			Caches: []backends.Backend{c}, Await: found([]backends.Reading{absent(c, "b-feature"), main}), Scopes: feature, Keep: keeps,
			Record: backends.Record{Branch: "feature"}, Gateway: testkit.Gateway(t),
		}).Destinations()[0]
		layers := len(main.Manifest.Layers)
		if meanwhile {
			other, config, _ := testkit.NewGraph("base", "other: base").Cache(t, "other")
			other, err := other.WithRecord(backends.Record{Time: time.Now(), Result: "sha256:02"})
			c.Set(other.Config.Digest, config)
			if err := errors.Join(err, c.PutManifest(t.Context(), "b-feature", other)); err != nil {
				t.Fatal(err)
			}
			layers++
		}
		if errs := outcomes(d.Copy(made)(t.Context())); errs[0] != nil {
			t.Fatal(errs[0])
		}
		got, err := c.Manifest(t.Context(), "b-feature")
		if err != nil {
			t.Fatal(err)
		}
		if r := got.Record; r.Branch != "feature" || r.Hits != 2 || r.Result != main.Manifest.Record.Result {
			t.Errorf("meanwhile %t: the record is %+v", meanwhile, r)
		}
		if len(got.Layers) != layers {
			t.Errorf("meanwhile %t: %d layers, want %d", meanwhile, len(got.Layers), layers)
		}
	}
}
