package gateway_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// entryText is an entry in a steady order.
func entryText(e client.CacheOptionsEntry) string {
	text := e.Type
	for _, k := range slices.Sorted(maps.Keys(e.Attrs)) {
		text += " " + k + "=" + e.Attrs[k]
	}
	return text
}

func importsText(t testing.TB, c gateway.Caches, host string, sources []backends.Source) string {
	t.Helper()
	var text strings.Builder
	for _, i := range c.Imports(t.Context(), sources) {
		i.Settle()
		fmt.Fprintf(&text, "%s:", strings.ReplaceAll(entryText(i.Entry), host, "HOST"))
		for _, s := range i.Sources {
			fmt.Fprintf(&text, " %s", s.Name)
		}
		text.WriteString("\n")
	}
	return text.String()
}

func TestImports(t *testing.T) {
	t.Parallel()
	shelf := &gated{store: newStore(), name: "shelf"}
	registry := real(t, nil, "type=registry,ref=ghcr.io/o/app").(backends.Keeper)
	onShelf := func(n scope.Name) backends.Source { return app.loaded(t, shelf, n) }
	inRegistry := func(n scope.Name) backends.Source {
		s := app.loaded(t, shelf, n)
		s.From = registry
		return s
	}
	as := func(state backends.State, s backends.Source) backends.Source {
		s.State = state
		return s
	}
	// Two scopes of one entry, as GitHub's cache has them.
	github := real(t, nil, "type=gha,token=t,url=https://cache.example").(backends.Keeper)
	onGitHub := func(n scope.Name) backends.Source {
		s := app.loaded(t, shelf, n)
		s.From = github
		return s
	}
	gone := as(backends.Failed, onGitHub("b-main"))
	gone.Err = backends.ErrGone
	const oneEntry = "gha scope=buildkit token=t url=https://cache.example version=1:"
	verbatim := backends.Source{State: backends.Absent, Entry: client.CacheOptionsEntry{Type: "gha", Attrs: map[string]string{"scope": "mine"}}}
	for _, test := range []struct {
		name         string
		sources      []backends.Source
		ours, remote string // to a daemon of ours, to a remote builder
	}{
		{name: "none"},
		{"a registry's", []backends.Source{inRegistry("b-main")},
			"registry ref=ghcr.io/o/app:cache-b-main: b-main\n",
			"registry ref=ghcr.io/o/app:cache-b-main: b-main\n"},
		{"the only one of a registry's", []backends.Source{as(backends.Absent, inRegistry("b-feature")), inRegistry("b-main")},
			"registry ref=ghcr.io/o/app:cache-b-main: b-main\n",
			"registry ref=ghcr.io/o/app:cache-b-main: b-main\n"},
		{"two of a registry's", []backends.Source{inRegistry("b-feature"), inRegistry("b-main")},
			"registry ref=HOST/s0:scopes: b-feature b-main\n",
			"registry ref=ghcr.io/o/app:cache-b-feature: b-feature\nregistry ref=ghcr.io/o/app:cache-b-main: b-main\n"},
		{"a store's", []backends.Source{onShelf("b-main")},
			"registry ref=HOST/s0:scopes: b-main\n",
			"shelf name=b-main: b-main\n"},
		{"several kinds", []backends.Source{onShelf("b-feature"), inRegistry("b-main")},
			"registry ref=HOST/s0:scopes: b-feature b-main\n",
			"shelf name=b-feature: b-feature\nregistry ref=ghcr.io/o/app:cache-b-main: b-main\n"},
		{"failed and absent ones", []backends.Source{as(backends.Failed, inRegistry("b-feature")), as(backends.Absent, inRegistry("b-main"))},
			"",
			"registry ref=ghcr.io/o/app:cache-b-feature: b-feature\n"},
		{"two of one entry", []backends.Source{onGitHub("b-feature"), as(backends.Failed, onGitHub("b-main"))},
			"registry ref=HOST/s0:scopes: b-feature\n",
			oneEntry + " b-feature b-main\n"},
		{"one of two is not whole", []backends.Source{onGitHub("b-feature"), gone},
			"registry ref=HOST/s0:scopes: b-feature\n",
			""},
		{"the user's own", []backends.Source{verbatim, as(backends.Failed, verbatim), onShelf("b-main")},
			"gha scope=mine: \nregistry ref=HOST/s0:scopes: b-main\n",
			"gha scope=mine: \nshelf name=b-main: b-main\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := listen(t)
			for _, way := range []struct {
				g    *gateway.Gateway
				want string
			}{{g, test.ours}, {nil, test.remote}} {
				caches := gateway.Connect(nil, nil, scope.Plan{}, backends.Record{}, way.g)
				if got := importsText(t, caches, g.Host, slices.Clone(test.sources)); got != way.want {
					t.Errorf("got\n%swant\n%s", got, way.want)
				}
			}
		})
	}
}

// A cache that must not be written has a destination that says why.
func TestRefused(t *testing.T) {
	t.Parallel()
	const why = "the runner's token may only read"
	open, limited := &gated{store: newStore(), name: "open"}, &limited{gated{store: newStore(), name: "shut"}, why}
	for _, g := range []*gateway.Gateway{listen(t), nil} {
		got := gateway.Connect([]backends.Backend{open, limited}, nil, writeMain, backends.Record{}, g).Destinations
		slices.SortFunc(got, func(a, b backends.Destination) int { return strings.Compare(a.Caches[0], b.Caches[0]) })
		if len(got) != 2 || got[0].Refused != nil || got[1].Refused == nil || got[1].Refused.Error() != why || got[1].Name != "b-main" {
			t.Errorf("destinations %+v", got)
		}
		if nothing := gateway.Connect([]backends.Backend{limited}, nil, scope.Plan{}, backends.Record{}, g).Destinations; len(nothing) != 0 {
			t.Errorf("nothing is to be written, and refused is %+v", nothing)
		}
	}
}

// limited is a cache that is not to be written.
type limited struct {
	gated
	why string
}

func (l *limited) Refuses(scope.Plan) string { return l.why }

// Caches that take the same export take it together.
func TestDestinations(t *testing.T) {
	t.Parallel()
	g := listen(t)
	zstd, gzip := map[string]string{"compression": "zstd"}, map[string]string{"compression": "gzip"}
	caches := []backends.Backend{
		&gated{store: newStore(), name: "one", options: zstd},
		real(t, nil, "type=registry,ref=ghcr.io/o/app"),
		&gated{store: newStore(), name: "two", options: gzip, strict: true},
		real(t, []string{"ghcr.io/o/image:v1"}, "type=inline,ignore-error=false"),
		&gated{store: newStore(), name: "three", options: zstd, strict: true},
	}
	const registry = "[registry ghcr.io/o/app] [false]: registry compression=zstd image-manifest=true mode=max oci-mediatypes=true ref=ghcr.io/o/app:cache-b-main\n"
	for _, test := range []struct {
		name string
		plan scope.Plan
		g    *gateway.Gateway
		want string
	}{
		{"through the gateway", writeMain, g, registry +
			"[inline ghcr.io/o/image] [true]: \n" +
			"[one three] [false true]: registry compression=zstd ref=HOST/d0:b-main\n" +
			"[two] [true]: registry compression=gzip ref=HOST/d1:b-main\n"},
		{"on a remote builder", writeMain, nil, "[one] [false]: shelf compression=zstd name=b-main\n" + registry +
			"[two] [true]: shelf compression=gzip name=b-main\n" +
			"[inline ghcr.io/o/image] [true]: \n" +
			"[three] [true]: shelf compression=zstd name=b-main\n"},
		{"nothing to write", scope.Plan{}, g, ""},
	} {
		connected := gateway.Connect(caches, nil, test.plan, backends.Record{}, test.g)
		var got strings.Builder
		for _, d := range connected.Destinations {
			fmt.Fprintf(&got, "%s %t: %s\n", d.Caches, d.Strict, strings.ReplaceAll(entryText(d.Entry), g.Host, "HOST"))
		}
		if got.String() != test.want || connected.Inline != (test.plan.Write != "") {
			t.Errorf("%s: got\n%swant\n%s", test.name, got.String(), test.want)
		}
	}
}

func TestUnchanged(t *testing.T) {
	t.Parallel()
	options := map[string]string{"mode": "max"}
	made := backends.Exported{Content: "sha256:00"}
	now := backends.Record{Time: time.Now(), Result: backends.ResultKey(options, made.Content)}
	// read is the scope of a cache with the record.
	read := func(c *gated, n scope.Name, r backends.Record) backends.Source {
		s := app.loaded(t, c, n)
		s.Manifest.Record = r
		return s
	}
	near := &gated{store: newStore(), name: "near", options: options}
	far := &gated{store: newStore(), name: "far", options: options}
	old, other := now, now
	old.Time, other.Result = now.Time.Add(-25*time.Hour), "sha256:01"
	broken := read(near, "b-main", now)
	broken.State = backends.Failed
	for _, test := range []struct {
		name    string
		caches  []backends.Backend
		sources []backends.Source
		made    backends.Exported
		want    bool
	}{
		{"the same", []backends.Backend{near}, []backends.Source{read(near, "b-main", now)}, made, true},
		{"another result", []backends.Backend{near}, []backends.Source{read(near, "b-main", other)}, made, false},
		{"nothing known of the result", []backends.Backend{near}, []backends.Source{read(near, "b-main", now)}, backends.Exported{}, false},
		{"a day old", []backends.Backend{near}, []backends.Source{read(near, "b-main", old)}, made, false},
		{"no record", []backends.Backend{near}, []backends.Source{read(near, "b-main", backends.Record{})}, made, false},
		{"broken", []backends.Backend{near}, []backends.Source{broken}, made, false},
		{"not read", []backends.Backend{near}, nil, made, false},
		{"another scope", []backends.Backend{near}, []backends.Source{read(near, "b-feature", now)}, made, false},
		{"both the same", []backends.Backend{near, far}, []backends.Source{read(near, "b-main", now), read(far, "b-main", now)}, made, true},
		{"one of two", []backends.Backend{near, far}, []backends.Source{read(near, "b-main", now), read(far, "b-main", other)}, made, false},
		{"another cache's", []backends.Backend{near}, []backends.Source{read(far, "b-main", now)}, made, false},
	} {
		d := gateway.Connect(test.caches, test.sources, writeMain, backends.Record{}, listen(t)).Destinations[0]
		if got := d.Unchanged(test.made); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// What was read from one directory says nothing of another one that is written.
func TestUnchangedElsewhere(t *testing.T) {
	t.Parallel()
	made := backends.Exported{Content: "sha256:00"}
	for line, want := range map[string]bool{"type=local,dest=/c": true, "type=local,src=/c,dest=/c/": true, "type=local,src=/c,dest=/d": false} {
		for _, g := range []*gateway.Gateway{listen(t), nil} {
			c := real(t, nil, line).(backends.Gated)
			own := app.loaded(t, &gated{store: newStore()}, "b-main")
			own.From = c
			own.Manifest.Record = backends.Record{Time: time.Now(), Result: backends.ResultKey(c.Options(), made.Content)}
			d := gateway.Connect([]backends.Backend{c}, []backends.Source{own}, writeMain, backends.Record{}, g).Destinations[0]
			if got := d.Unchanged(made); got != want {
				t.Errorf("%s, gateway %t: %t", line, g != nil, got)
			}
		}
	}
}

// An export that is committed is unchanged the next time, whichever way it went.
func TestCommitThenUnchanged(t *testing.T) {
	t.Parallel()
	made := backends.Exported{Content: "sha256:00"}
	record := backends.Record{Branch: "main", Commit: "33e6d73fee", Version: "v1"}
	c, g := &gated{store: newStore(), name: "shelf", options: map[string]string{"mode": "max"}}, listen(t)
	m, _ := app.cache(t, c.store, "me")
	made.Manifest = m.Descriptor().Digest
	for _, through := range []*gateway.Gateway{g, nil} {
		d := gateway.Connect([]backends.Backend{c}, nil, writeMain, record, through).Destinations[0]
		if through == nil {
			c.scopes["b-main"] = m // which BuildKit has written
		} else if a := ask(t, g, "PUT", "/v2/d0/manifests/b-main", strings.NewReader(string(m.Raw))); a.status != 201 {
			t.Fatal(a)
		}
		if errs := d.Commit(t.Context(), made); errs[0] != nil {
			t.Fatal(errs)
		}
		written, err := c.Manifest(t.Context(), "b-main")
		if err != nil {
			t.Fatal(err)
		}
		if r := written.Record; r.Branch != "main" || r.Commit != "33e6d73fee" || r.Version != "v1" || time.Since(r.Time) > time.Minute {
			t.Errorf("record %+v", r)
		}
		own := backends.Source{Source: scope.Source{Name: "b-main"}, From: c, State: backends.Loaded, Manifest: written}
		again := gateway.Connect([]backends.Backend{c}, []backends.Source{own}, writeMain, record, through).Destinations[0]
		if !again.Unchanged(made) || again.Unchanged(backends.Exported{Content: "sha256:01"}) {
			t.Errorf("unchanged: %t, and with another result %t", again.Unchanged(made), again.Unchanged(backends.Exported{Content: "sha256:01"}))
		}
	}
}

// The record goes onto the manifest that BuildKit pushed, and onto no other.
func TestCommitToRegistry(t *testing.T) {
	t.Parallel()
	host := testkit.StartRegistry(t).Host
	c := real(t, nil, "type=registry,ref="+host+"/o/app").(backends.Keeper)
	pushed := pushImage(t, host+"/o/app:cache-b-main").Descriptor().Digest
	d := gateway.Connect([]backends.Backend{c}, nil, writeMain, backends.Record{Branch: "main"}, listen(t)).Destinations[0]
	for _, test := range []struct {
		manifest digest.Digest
		branch   string
	}{
		{digest.FromString("another build's"), ""},
		{pushed, "main"},
		{pushed, "main"}, // by now another manifest is there
	} {
		if errs := d.Commit(t.Context(), backends.Exported{Content: "sha256:00", Manifest: test.manifest}); errs[0] != nil {
			t.Error(errs)
		}
		if m, err := c.Scopes().Manifest(t.Context(), "b-main"); err != nil || m.Record.Branch != test.branch {
			t.Errorf("record %+v, %v", m.Record, err)
		}
	}
	gone := gateway.Connect([]backends.Backend{c}, nil, scope.Plan{Write: "b-gone"}, backends.Record{}, nil).Destinations[0]
	if errs := gone.Commit(t.Context(), backends.Exported{}); errs[0] == nil || !strings.Contains(errs[0].Error(), "attach the scope's record: ") {
		t.Errorf("of a scope that is gone: %v", errs)
	}
}

// pushImage pushes some image, and returns its manifest.
func pushImage(t testing.TB, ref string) backends.Manifest {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image); err != nil {
		t.Fatal(err)
	}
	raw, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	m, err := backends.ParseManifest(raw, "application/vnd.docker.distribution.manifest.v2+json")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCommitInline(t *testing.T) {
	t.Parallel()
	host := testkit.StartRegistry(t).Host
	c := real(t, []string{host + "/o/app:v1"}, "inline").(*backends.Inline)
	image := pushImage(t, host+"/o/app:v1")
	made := backends.Exported{Image: image.Descriptor().Digest}
	caches := gateway.Connect([]backends.Backend{c}, nil, writeMain, backends.Record{}, listen(t))
	d := caches.Destinations[0]
	if !caches.Inline || d.Entry.Type != "" || d.Unchanged(made) {
		t.Errorf("%+v", d)
	}
	if errs := d.Commit(t.Context(), made); errs[0] != nil {
		t.Fatal(errs)
	}
	tag, err := name.NewTag(host + "/o/app:cache-b-main")
	if err != nil {
		t.Fatal(err)
	}
	if scoped, err := remote.Head(tag); err != nil || scoped.Digest.String() != made.Image.String() {
		t.Errorf("tagged %v, %v", scoped, err)
	}
	own := backends.Source{Source: scope.Source{Name: "b-main"}, From: c, State: backends.Loaded, Manifest: image}
	d = gateway.Connect([]backends.Backend{c}, []backends.Source{own}, writeMain, backends.Record{}, nil).Destinations[0]
	if !d.Unchanged(made) || d.Unchanged(backends.Exported{Image: digest.FromString("other")}) {
		t.Error("the image's digest does not decide what is unchanged")
	}
}
