package cacheplan_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// states are the sources with their outcomes: "b-main loaded".
func states(r *cacheplan.Reads) string {
	var out []string
	for _, s := range r.Outcomes() {
		out = append(out, strings.TrimSpace(s.Name+" "+string(s.State)))
	}
	return strings.Join(out, ", ")
}

func TestImports(t *testing.T) {
	t.Parallel()
	shelf := newMemoryCache("shelf")
	registry := real(t, nil, "type=registry,ref=ghcr.io/o/app")
	github := real(t, nil, "type=gha,token=t,url=https://cache.example") // several scopes in one entry
	onShelf := func(n scope.Name) backends.Reading { return reading(t, app, shelf, n) }
	inRegistry := func(n scope.Name) backends.Reading { return reading(t, app, registry, n) }
	onGitHub := func(n scope.Name) backends.Reading { return reading(t, app, github, n) }
	with := func(err error, r backends.Reading) backends.Reading {
		return backends.Reading{Source: r.Source, From: r.From, Err: err}
	}
	broken := errors.New("no answer")
	const oneEntry = "gha scope=buildkit token=t url=https://cache.example version=1\n"
	own := lines(t, cachespec.From, "type=gha,scope=mine")
	for _, test := range []struct {
		name             string
		readings         []backends.Reading
		own              []cachespec.Cache
		pushed           string // "": ghcr.io/o/image
		managed, remote  string // imports of a managed and of a remote builder
		readBy, readByIt string // and the sources that are loaded when all imports have succeeded
	}{
		{name: "none"},
		{name: "a registry's", readings: []backends.Reading{inRegistry("b-main")},
			managed: "registry ref=ghcr.io/o/app:cache-b-main\n", readBy: "b-main loaded",
			remote: "registry ref=ghcr.io/o/app:cache-b-main\n", readByIt: "b-main loaded"},
		{name: "beside the image", pushed: "ghcr.io/o/app", readings: []backends.Reading{inRegistry("b-main")},
			managed: "registry ref=HOST/s0:scopes\n", readBy: "b-main loaded",
			remote: "registry ref=ghcr.io/o/app:cache-b-main\n", readByIt: "b-main loaded"},
		{name: "for an image in another registry", pushed: "example.org/o/image", readings: []backends.Reading{inRegistry("b-main")},
			managed: "registry ref=HOST/s0:scopes\n", readBy: "b-main loaded",
			remote: "registry ref=ghcr.io/o/app:cache-b-main\n", readByIt: "b-main loaded"},
		{name: "the only one of a registry's", readings: []backends.Reading{with(backends.ErrAbsent, inRegistry("b-feature")), inRegistry("b-main")},
			managed: "registry ref=ghcr.io/o/app:cache-b-main\n", readBy: "b-feature absent, b-main loaded",
			remote: "registry ref=ghcr.io/o/app:cache-b-main\n", readByIt: "b-feature absent, b-main loaded"},
		{name: "two of a registry's", readings: []backends.Reading{inRegistry("b-feature"), inRegistry("b-main")},
			managed: "registry ref=HOST/s0:scopes\n", readBy: "b-feature loaded, b-main loaded",
			remote: "registry ref=ghcr.io/o/app:cache-b-feature\nregistry ref=ghcr.io/o/app:cache-b-main\n", readByIt: "b-feature loaded, b-main loaded"},
		{name: "a store's", readings: []backends.Reading{onShelf("b-main")},
			managed: "registry ref=HOST/s0:scopes\n", readBy: "b-main loaded",
			remote: "shelf name=b-main\n", readByIt: "b-main loaded"},
		{name: "several kinds", readings: []backends.Reading{onShelf("b-feature"), inRegistry("b-main")},
			managed: "registry ref=HOST/s0:scopes\n", readBy: "b-feature loaded, b-main loaded",
			remote: "shelf name=b-feature\nregistry ref=ghcr.io/o/app:cache-b-main\n", readByIt: "b-feature loaded, b-main loaded"},
		{name: "failed and absent ones", readings: []backends.Reading{with(broken, inRegistry("b-feature")), with(backends.ErrAbsent, inRegistry("b-main"))},
			readBy: "b-feature failed, b-main absent",
			remote: "registry ref=ghcr.io/o/app:cache-b-feature\n", readByIt: "b-feature loaded, b-main absent"},
		{name: "two of one entry", readings: []backends.Reading{onGitHub("b-feature"), with(broken, onGitHub("b-main"))},
			managed: "registry ref=HOST/s0:scopes\n", readBy: "b-feature loaded, b-main failed",
			remote: oneEntry, readByIt: "b-feature loaded, b-main loaded"},
		{name: "one of two is incomplete", readings: []backends.Reading{onGitHub("b-feature"), with(fmt.Errorf("2 of 3 %w", backends.ErrGone), onGitHub("b-main"))},
			managed: "registry ref=HOST/s0:scopes\n", readBy: "b-feature loaded, b-main failed",
			readByIt: "b-feature loaded, b-main failed"},
		{name: "too large for BuildKit", readings: []backends.Reading{tower(t, registry, "b-main")},
			readBy: "b-main failed", readByIt: "b-main failed"},
		{name: "one of two is too large", readings: []backends.Reading{tower(t, registry, "b-feature"), inRegistry("b-main")},
			managed: "registry ref=HOST/s0:scopes\n", readBy: "b-feature failed, b-main loaded",
			remote: "registry ref=ghcr.io/o/app:cache-b-main\n", readByIt: "b-feature failed, b-main loaded"},
		{name: "the user's own", readings: []backends.Reading{onShelf("b-main")}, own: own,
			managed: "gha scope=mine\nregistry ref=HOST/s0:scopes\n", readBy: "b-main loaded, loaded",
			remote: "gha scope=mine\nshelf name=b-main\n", readByIt: "b-main loaded, loaded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := testkit.Gateway(t)
			for _, way := range []struct {
				g               *gateway.Gateway
				want, andLoaded string
			}{{g, test.managed, test.readBy}, {nil, test.remote, test.readByIt}} {
				reads := cacheplan.New(cacheplan.Request{
					Await: found(test.readings), From: test.own, Gateway: way.g, Pushed: []string{cmp.Or(test.pushed, "ghcr.io/o/image")},
				}).Reads
				imports := reads.Imports(t.Context())
				var got strings.Builder
				for _, e := range imports {
					got.WriteString(strings.ReplaceAll(entryText(e), g.Host, "HOST") + "\n")
				}
				if got.String() != way.want {
					t.Errorf("gateway %t: got\n%swant\n%s", way.g != nil, got.String(), way.want)
				}
				reads.Observe(cacheplan.Attempt{Imports: slices.Repeat([]cacheplan.ImportEnd{{Began: true, Ended: true}}, len(imports))})
				if got := states(reads); got != way.andLoaded {
					t.Errorf("gateway %t: sources %s, want %s", way.g != nil, got, way.andLoaded)
				}
			}
		})
	}
}

// On a managed builder the first attempt gets its entries before the scopes are read, and the gateway
// waits for them.
func TestImportBeforeReading(t *testing.T) {
	t.Parallel()
	shelf := newMemoryCache("shelf")
	plan := scope.Plan{Read: []scope.Source{{Name: "b-feature"}, {Name: "b-main"}}}
	for name, test := range map[string]struct {
		readings    []backends.Reading
		gets, state string
		second      string // the imports of a second attempt
	}{
		"one is there": {
			[]backends.Reading{absent(shelf, "b-feature"), reading(t, app, shelf, "b-main")},
			"2 layers", "b-feature absent, b-main loaded, loaded", "gha scope=mine, registry ref=HOST/s1:scopes",
		},
		"none is there": {
			[]backends.Reading{absent(shelf, "b-feature"), absent(shelf, "b-main")},
			"0 layers", "b-feature absent, b-main absent, loaded", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, read := testkit.Gateway(t), make(chan struct{})
			reads := cacheplan.New(cacheplan.Request{
				Caches: []backends.Backend{shelf}, Scopes: plan, From: lines(t, cachespec.From, "type=gha,scope=mine"), Gateway: g,
				Await: func() cacheplan.Found { <-read; return found(test.readings)() },
			}).Reads
			imports := func() string {
				var all []string
				for _, e := range reads.Imports(t.Context()) {
					all = append(all, strings.ReplaceAll(entryText(e), g.Host, "HOST"))
				}
				return strings.Join(all, ", ")
			}
			if got := imports(); got != "gha scope=mine, registry ref=HOST/s0:scopes" || !reads.Settled().IsZero() {
				t.Errorf("imports %s, readings known at %s", got, reads.Settled())
			}
			close(read)
			if got, _, _ := strings.Cut(offeredLayers(t, g, "s0"), ","); got != test.gets {
				t.Errorf("BuildKit gets %s", got)
			}
			ends := []cacheplan.ImportEnd{{Began: true, Ended: true}, {Began: true, Ended: true}}
			lost := fmt.Errorf("could not fetch content descriptor %s", layerOf("app"))
			faults := reads.Observe(cacheplan.Attempt{Err: lost, Imports: ends})
			if got := states(reads); got != test.state || reads.Settled().IsZero() {
				t.Errorf("sources %s", got)
			}
			reads.LeaveOut(faults)
			if got := imports(); got != test.second {
				t.Errorf("the second attempt imports %s", got)
			}
		})
	}
}

// The second attempt leaves out the sources that are at fault for the first one, and those that
// failed in it.
func TestSecondAttempt(t *testing.T) {
	t.Parallel()
	shelf := newMemoryCache("shelf")
	readings := []backends.Reading{reading(t, testkit.NewGraph("base", "x: base"), shelf, "b-feature"), reading(t, app, shelf, "b-main")}
	own := lines(t, cachespec.From, "ghcr.io/o/other:v1")
	reads := cacheplan.New(cacheplan.Request{Await: found(readings), From: own}).Reads
	if imports := reads.Imports(t.Context()); len(imports) != 3 {
		t.Fatal(imports)
	}
	lost := fmt.Errorf("could not fetch content descriptor %s", readings[1].Manifest.Layers[0].Digest)
	faults := reads.Observe(cacheplan.Attempt{Err: lost, Imports: []cacheplan.ImportEnd{{Began: true, Ended: true, Error: "denied"}, {Began: true, Ended: true}, {Began: true, Ended: true}}})
	reads.LeaveOut(faults)
	if imports := reads.Imports(t.Context()); len(imports) != 1 || imports[0].Attrs["name"] != "b-feature" {
		t.Errorf("imports %v", imports)
	}
	reads.Observe(cacheplan.Attempt{Imports: []cacheplan.ImportEnd{{Began: true, Ended: true}}})
	if got := states(reads); got != "b-feature loaded, failed, b-main failed" {
		t.Errorf("sources %s", got)
	}
	if last := reads.Outcomes()[2]; last.Cache != "shelf" || !errors.Is(last.Err, lost) {
		t.Errorf("left out: %+v", last)
	}
}

// How the end of an import changes the outcome of its source.
func TestImportEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		end   cacheplan.ImportEnd
		state cacheplan.State
		err   string
	}{
		{cacheplan.ImportEnd{Began: true, Ended: true}, cacheplan.Loaded, ""},
		{cacheplan.ImportEnd{Began: true, Ended: true, Error: "failed to configure registry cache importer: example.org/a:b: not found"}, cacheplan.Absent, "not found"},
		{cacheplan.ImportEnd{Began: true, Ended: true, Error: "unexpected status from HEAD request: 500"}, cacheplan.Failed, "500"},
		{cacheplan.ImportEnd{Began: true}, cacheplan.Absent, ""}, // unchanged
		{cacheplan.ImportEnd{}, cacheplan.Absent, ""},
	} {
		reads := cacheplan.New(cacheplan.Request{From: lines(t, cachespec.From, "example.org/a:b")}).Reads
		reads.Imports(t.Context())
		reads.Observe(cacheplan.Attempt{Imports: []cacheplan.ImportEnd{test.end}})
		s := reads.Outcomes()[0]
		if s.State != test.state || (s.Err == nil) != (test.err == "") || s.Err != nil && !strings.Contains(s.Err.Error(), test.err) {
			t.Errorf("%+v: %s, %v", test.end, s.State, s.Err)
		}
	}
}

// A source whose config cannot be parsed fails without the others.
func TestDamagedConfig(t *testing.T) {
	t.Parallel()
	good, bad := reading(t, app, newMemoryCache("shelf"), "b-good"), reading(t, testkit.NewGraph("y"), newMemoryCache("shelf"), "b-bad")
	bad.Config = []byte("<html>")
	reads := cacheplan.New(cacheplan.Request{Await: found([]backends.Reading{bad, good}), Gateway: testkit.Gateway(t)}).Reads
	if imports := reads.Imports(t.Context()); len(imports) != 1 {
		t.Errorf("imports %v", imports)
	}
	reads.Observe(cacheplan.Attempt{Imports: []cacheplan.ImportEnd{{Began: true, Ended: true}}})
	if got := states(reads); got != "b-bad failed, b-good loaded" {
		t.Error(got)
	}
	if err := reads.Outcomes()[0].Err; err == nil || !strings.Contains(err.Error(), "its cache config cannot be read: ") {
		t.Error(err)
	}
}

// get is what BuildKit gets at a path of the gateway.
func get(t testing.TB, g *gateway.Gateway, path string) string {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.Host+path, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	r.SetBasicAuth(g.Credentials())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("%s, %v: %s", response.Status, err, body)
	}
	return string(body)
}

// When every source is left out BuildKit gets an empty cache, in the form of any other.
func TestMergeOfNothing(t *testing.T) {
	t.Parallel()
	bad := reading(t, app, newMemoryCache("shelf"), "b-main")
	bad.Config = []byte("{")
	g := testkit.Gateway(t)
	cacheplan.New(cacheplan.Request{Await: found([]backends.Reading{bad}), Gateway: g}).Reads.Imports(t.Context())
	m, err := backends.ParseManifest([]byte(get(t, g, "/v2/s0/manifests/scopes")), "")
	if err != nil || len(m.Layers) != 0 || get(t, g, "/v2/s0/blobs/"+m.Config.Digest.String()) != "{}" {
		t.Errorf("%s, %v", m.Raw, err)
	}
}

// The build begins while the blobs of the caches are still being verified. BuildKit's request waits
// for the end of that, and gets the caches that are complete.
func TestVerifiedWhileBuilding(t *testing.T) {
	t.Parallel()
	far := newMemoryCache("far")
	far.HoldStat = make(chan struct{})
	var plan scope.Plan
	for i, g := range []testkit.Graph{testkit.NewGraph("base", "x: base"), testkit.NewGraph("base", "y: base")} {
		n := scope.Name(fmt.Sprintf("b-%d", i))
		m, _, blobs := g.Cache(t, string(n))
		for d, content := range blobs {
			far.Set(d, content)
		}
		if err := far.PutManifest(t.Context(), n, m); err != nil {
			t.Fatal(err)
		}
		plan.Read = append(plan.Read, scope.Source{Name: n})
	}
	readings := backends.Read(t.Context(), []backends.Backend{far}, plan, time.Minute)
	lost := readings[1].Manifest.Layers[1].Digest
	far.Set(lost, nil)

	g := testkit.Gateway(t)
	reads := cacheplan.New(cacheplan.Request{Await: found(readings), Scopes: plan, Gateway: g}).Reads
	if imports := reads.Imports(t.Context()); len(imports) != 1 || states(reads) != "b-0 loaded, b-1 loaded" {
		t.Fatalf("imports %v of sources %s", imports, states(reads))
	}
	asked := make(chan string)
	go func() { asked <- get(t, g, "/v2/s0/manifests/scopes") }()
	select {
	case a := <-asked:
		t.Fatalf("before the end of the verification: %s", a)
	case far.HoldStat <- struct{}{}: // the first is checked
	}
	close(far.HoldStat)
	m, err := backends.ParseManifest([]byte(<-asked), ocispecs.MediaTypeImageManifest)
	if err != nil || len(m.Layers) != 2 || slices.ContainsFunc(m.Layers, func(l ocispecs.Descriptor) bool { return l.Digest == lost }) {
		t.Errorf("%v, layers %v", err, m.Layers)
	}
	reads.Observe(cacheplan.Attempt{Imports: []cacheplan.ImportEnd{{Began: true, Ended: true}}})
	if second := reads.Outcomes()[1]; states(reads) != "b-0 loaded, b-1 loaded" || !second.Faulty() || !errors.Is(second.Err, backends.ErrGone) {
		t.Errorf("%s: %v", states(reads), second.Err)
	}
}

// A config that is too large for BuildKit is made of fewer sources, the nearest ones.
func TestMergeTooLarge(t *testing.T) {
	t.Parallel()
	var readings []backends.Reading
	for i := range 3 {
		var lines []string
		for n := range 3000 {
			lines = append(lines, fmt.Sprintf("%d-%d", i, n))
		}
		r := reading(t, testkit.NewGraph(lines...), newMemoryCache("shelf"), scope.Name(fmt.Sprintf("b-%d", i)))
		if len(r.Config) > backends.MaxConfig || 3*len(r.Config) < backends.MaxConfig {
			t.Fatalf("a config of %d bytes", len(r.Config))
		}
		readings = append(readings, r)
	}
	g := testkit.Gateway(t)
	reads := cacheplan.New(cacheplan.Request{Await: found(readings), Gateway: g}).Reads
	reads.Imports(t.Context())
	if m, err := backends.ParseManifest([]byte(get(t, g, "/v2/s0/manifests/scopes")), ""); err != nil || m.Config.Size > backends.MaxConfig {
		t.Errorf("a config of %d bytes, %v", m.Config.Size, err)
	}
	reads.Observe(cacheplan.Attempt{Imports: []cacheplan.ImportEnd{{Began: true, Ended: true}}})
	if last := reads.Outcomes()[2]; !strings.HasPrefix(states(reads), "b-0 loaded") || last.State != cacheplan.Failed || !strings.Contains(last.Err.Error(), "BuildKit imports at most 1048576") {
		t.Errorf("%s: %v", states(reads), last.Err)
	}
}
