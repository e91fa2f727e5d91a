package cacheplan_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

var steps = testkit.NewGraph("base", "deps: base", "app: deps", "docs: base")

// layerOf is the layer of a step of the scope b-main.
func layerOf(step string) digest.Digest { return digest.FromString(step + " by b-main") }

// loadedAll is an attempt in which all imports succeeded.
func loadedAll(err error) cacheplan.Attempt {
	return cacheplan.Attempt{Err: err, Imports: []cacheplan.ImportEnd{{Began: true, Ended: true}}}
}

// offeredLayers are the layers of the cache that BuildKit gets: "2 layers, without app".
func offeredLayers(t *testing.T, g *gateway.Gateway, repo string) string {
	t.Helper()
	m, err := backends.ParseManifest([]byte(get(t, g, "/v2/"+repo+"/manifests/scopes")), "")
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%d layers", len(m.Layers))
	for _, step := range []string{"base", "deps", "app", "docs"} {
		there := false
		for _, l := range m.Layers {
			there = there || l.Digest == layerOf(step)
		}
		if !there {
			text += ", without " + step
		}
	}
	return text
}

// A lost blob costs the results that need it, and no more: the blobs that are gone when the
// cache is read.
func TestGoneBlobs(t *testing.T) {
	t.Parallel()
	plan := scope.Plan{Read: []scope.Source{{Name: "b-main"}}}
	for _, test := range []struct {
		gone, offered, state, says string
	}{
		{"app", "3 layers, without app", "b-main loaded", "1 of 4 results are not used: 1 of 5 blobs are gone, the first " + layerOf("app").String()},
		{"base docs", "2 layers, without base, without docs", "b-main loaded", "2 of 4 results are not used: 2 of 5 blobs are gone, the first " + layerOf("base").String()},
		{"base deps app docs", "0 layers, without base, without deps, without app, without docs", "b-main failed", "4 of 5 blobs are gone"},
	} {
		t.Run(test.gone, func(t *testing.T) {
			t.Parallel()
			c, g := newMemoryCache("shelf"), testkit.Gateway(t)
			m, _, blobs := steps.Cache(t, "b-main")
			for d, content := range blobs {
				c.Set(d, content)
			}
			for step := range strings.FieldsSeq(test.gone) {
				c.Set(layerOf(step), nil)
			}
			if err := c.PutManifest(t.Context(), "b-main", m); err != nil {
				t.Fatal(err)
			}
			readings := backends.Read(t.Context(), []backends.Backend{c}, plan, time.Minute)
			reads := cacheplan.New(cacheplan.Request{Await: found(readings), Scopes: plan, Gateway: g}).Reads
			reads.Imports(t.Context())
			if got := offeredLayers(t, g, "s0"); got != test.offered {
				t.Errorf("BuildKit gets %s", got)
			}
			reads.Observe(loadedAll(nil))
			s := reads.Outcomes()[0]
			if states(reads) != test.state || !s.Faulty() || !errors.Is(s.Err, backends.ErrGone) || !strings.HasPrefix(s.Err.Error(), test.says) {
				t.Errorf("%s: %v", states(reads), s.Err)
			}
		})
	}
}

// The same for blobs that are lost while their layers are extracted: the second attempt goes
// without the results that need them, and a third one without any scope.
func TestLostBlobs(t *testing.T) {
	t.Parallel()
	lost := func(step string) error { return fmt.Errorf("could not fetch content descriptor %s", layerOf(step)) }
	for name, from := range map[string]backends.Backend{
		"a store": newMemoryCache("shelf"), "a registry": real(t, nil, "type=registry,ref=ghcr.io/o/app"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := testkit.Gateway(t)
			reads := cacheplan.New(cacheplan.Request{
				Await: found([]backends.Reading{reading(t, steps, from, "b-main")}), Gateway: g, Pushed: []string{"ghcr.io/o/image"},
			}).Reads
			reads.Imports(t.Context())
			reads.LeaveOut(reads.Observe(loadedAll(lost("deps"))))
			if imports := reads.Imports(t.Context()); len(imports) != 1 || !strings.HasPrefix(imports[0].Attrs["ref"], g.Host) {
				t.Fatalf("the second attempt imports %v", imports)
			}
			repo := map[string]string{"a store": "s1", "a registry": "s0"}[name]
			if got := offeredLayers(t, g, repo); got != "3 layers, without deps" {
				t.Errorf("the second attempt gets %s", got)
			}
			if faults := reads.Observe(loadedAll(errors.New("a mistake of the user, " + lost("deps").Error()))); len(faults) != 0 {
				t.Errorf("at fault for a blob that was left out: %v", faults)
			}
			s := reads.Outcomes()[0]
			if states(reads) != "b-main loaded" || !s.Faulty() || !strings.HasPrefix(s.Err.Error(), "1 of 4 results are not used: blob "+layerOf("deps").String()+" was lost") {
				t.Errorf("%s: %v", states(reads), s.Err)
			}
			reads.LeaveOut(reads.Observe(loadedAll(lost("app"))))
			if imports := reads.Imports(t.Context()); len(imports) != 0 || states(reads) != "b-main failed" {
				t.Errorf("the third attempt imports %v of %s", imports, states(reads))
			}
		})
	}
}

// What a store answers for a lost blob is the reason. A blob that is absent does not make the
// source absent.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	c, g := newMemoryCache("shelf"), testkit.Gateway(t)
	m, _, blobs := steps.Cache(t, "b-main")
	for d, content := range blobs {
		c.Set(d, content)
	}
	if err := c.PutManifest(t.Context(), "b-main", m); err != nil {
		t.Fatal(err)
	}
	plan := scope.Plan{Read: []scope.Source{{Name: "b-main"}}}
	readings := backends.Read(t.Context(), []backends.Backend{c}, plan, time.Minute)
	reads := cacheplan.New(cacheplan.Request{Await: found(readings), Scopes: plan, Gateway: g}).Reads
	reads.Imports(t.Context())
	if got := offeredLayers(t, g, "s0"); got != "4 layers" {
		t.Fatalf("BuildKit gets %s", got)
	}
	c.Set(layerOf("base"), nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.Host+"/v2/s0/blobs/"+layerOf("base").String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(g.Credentials())
	response, err := http.DefaultClient.Do(r)
	if err != nil || response.Body.Close() != nil || response.StatusCode == http.StatusOK {
		t.Fatal(response, err)
	}
	reads.LeaveOut(reads.Observe(loadedAll(errors.New("could not fetch"))))
	reads.Imports(t.Context())
	reads.Observe(loadedAll(nil))
	if s := reads.Outcomes()[0]; s.State != cacheplan.Loaded || !strings.HasSuffix(s.Err.Error(), "blob "+layerOf("base").String()+" was lost: absent") {
		t.Errorf("%s: %v", s.State, s.Err)
	}
}

// A store that stalls is left out as a whole: it would stall again.
func TestStallingStore(t *testing.T) {
	t.Parallel()
	reads := cacheplan.New(cacheplan.Request{Await: found([]backends.Reading{reading(t, steps, newMemoryCache("shelf"), "b-main")}), Gateway: testkit.Gateway(t)}).Reads
	reads.Imports(t.Context())
	attempt := loadedAll(cacheplan.ErrStalled)
	attempt.Partial = []digest.Digest{layerOf("app")}
	reads.LeaveOut(reads.Observe(attempt))
	if imports := reads.Imports(t.Context()); len(imports) != 0 || states(reads) != "b-main failed" {
		t.Errorf("the second attempt imports %v of %s", imports, states(reads))
	}
}

// When a cache breaks the build a second time, all sources are left out, those that have done
// nothing too.
func TestThirdAttempt(t *testing.T) {
	t.Parallel()
	readings := []backends.Reading{
		reading(t, testkit.NewGraph("base", "x: base"), newMemoryCache("shelf"), "b-feature"), reading(t, steps, newMemoryCache("shelf"), "b-main"),
	}
	reads := cacheplan.New(cacheplan.Request{Await: found(readings), Gateway: testkit.Gateway(t)}).Reads
	for _, step := range []string{"deps", "app"} {
		if imports := reads.Imports(t.Context()); len(imports) != 1 {
			t.Fatalf("imports %v", imports)
		}
		reads.LeaveOut(reads.Observe(loadedAll(errors.New(layerOf(step).String()))))
	}
	if imports := reads.Imports(t.Context()); len(imports) != 0 || states(reads) != "b-main failed, b-feature failed" {
		t.Errorf("imports %v of %s", imports, states(reads))
	}
}
