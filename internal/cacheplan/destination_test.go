package cacheplan_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// destinations are the destinations of a plan that writes b-main.
func destinations(readings []backends.Reading, g *gateway.Gateway, caches ...backends.Backend) []cacheplan.Destination {
	return cacheplan.New(cacheplan.Request{Caches: caches, Await: found(readings), Scopes: writeMain, Record: record, Gateway: g}).Destinations()
}

var record = backends.Record{Branch: "main", Commit: "33e6d73fee", Version: "v1"}

// names are the caches of a destination: "[one three] [false true]".
func names(d cacheplan.Destination) string {
	var names []string
	var strict []bool
	for _, c := range d.Caches {
		names, strict = append(names, c.Name), append(strict, c.Strict)
	}
	return fmt.Sprint(names, " ", strict)
}

// A cache that must not be written has a destination with the reason.
func TestRefused(t *testing.T) {
	t.Parallel()
	const why = "the runner's token may only read"
	open, limited := newMemoryCache("open"), &limited{*newMemoryCache("shut"), why}
	for _, g := range []*gateway.Gateway{testkit.Gateway(t), nil} {
		got := destinations(nil, g, open, limited)
		slices.SortFunc(got, func(a, b cacheplan.Destination) int { return strings.Compare(a.Caches[0].Name, b.Caches[0].Name) })
		if len(got) != 2 || got[0].Refused != nil || got[1].Refused == nil || got[1].Refused.Error() != why || got[1].Name != "b-main" {
			t.Errorf("destinations %+v", got)
		}
		if nothing := cacheplan.New(cacheplan.Request{Caches: []backends.Backend{limited}, Gateway: g}).Destinations(); len(nothing) != 0 {
			t.Errorf("a plan that writes nothing has the destinations %+v", nothing)
		}
	}
}

// limited is a cache that must not be written.
type limited struct {
	memoryCache
	why string
}

func (l *limited) Refuses(scope.Plan) string { return l.why }

// Caches that accept the same export share it.
func TestDestinations(t *testing.T) {
	t.Parallel()
	g := testkit.Gateway(t)
	zstd, gzip := map[string]string{"compression": "zstd"}, map[string]string{"compression": "gzip"}
	caches := []backends.Backend{
		&memoryCache{Store: testkit.NewStore(), name: "one", options: zstd},
		real(t, nil, "type=registry,ref=ghcr.io/o/app"),
		&memoryCache{Store: testkit.NewStore(), name: "two", options: gzip, strict: true},
		real(t, []string{"ghcr.io/o/image:v1"}, "type=inline,ignore-error=false"),
		&memoryCache{Store: testkit.NewStore(), name: "three", options: zstd, strict: true},
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
		plan := cacheplan.New(cacheplan.Request{Caches: caches, Scopes: test.plan, Gateway: test.g})
		var got strings.Builder
		for _, d := range plan.Destinations() {
			fmt.Fprintf(&got, "%s: %s\n", names(d), strings.ReplaceAll(entryText(d.Entry), g.Host, "HOST"))
		}
		if got.String() != test.want || plan.Inline != (test.plan.Write != "") {
			t.Errorf("%s: got\n%swant\n%s", test.name, got.String(), test.want)
		}
	}
}

func TestUnchanged(t *testing.T) {
	t.Parallel()
	options := map[string]string{"mode": "max"}
	made := cacheplan.Exported{Content: "sha256:00"}
	now := backends.Record{Time: time.Now(), Result: backends.ResultKey(options, made.Content)}
	// read is the scope of a cache with the record.
	read := func(c *memoryCache, n scope.Name, r backends.Record) backends.Reading {
		found := reading(t, app, c, n)
		found.Manifest.Record = r
		return found
	}
	near, far := newMemoryCache("near"), newMemoryCache("far")
	old, other := now, now
	old.Time, other.Result = now.Time.Add(-25*time.Hour), "sha256:01"
	broken := read(near, "b-main", now)
	broken.Err = backends.ErrGone
	for _, test := range []struct {
		name     string
		caches   []backends.Backend
		readings []backends.Reading
		made     cacheplan.Exported
		want     bool
	}{
		{"the same", []backends.Backend{near}, []backends.Reading{read(near, "b-main", now)}, made, true},
		{"another result", []backends.Backend{near}, []backends.Reading{read(near, "b-main", other)}, made, false},
		{"the result is unknown", []backends.Backend{near}, []backends.Reading{read(near, "b-main", now)}, cacheplan.Exported{}, false},
		{"a day old", []backends.Backend{near}, []backends.Reading{read(near, "b-main", old)}, made, false},
		{"no record", []backends.Backend{near}, []backends.Reading{read(near, "b-main", backends.Record{})}, made, false},
		{"broken", []backends.Backend{near}, []backends.Reading{broken}, made, false},
		{"not read", []backends.Backend{near}, nil, made, false},
		{"another scope", []backends.Backend{near}, []backends.Reading{read(near, "b-feature", now)}, made, false},
		{"both unchanged", []backends.Backend{near, far}, []backends.Reading{read(near, "b-main", now), read(far, "b-main", now)}, made, true},
		{"one of two", []backends.Backend{near, far}, []backends.Reading{read(near, "b-main", now), read(far, "b-main", other)}, made, false},
		{"that of another cache", []backends.Backend{near}, []backends.Reading{read(far, "b-main", now)}, made, false},
	} {
		d := destinations(test.readings, testkit.Gateway(t), test.caches...)[0]
		if got := d.Unchanged(test.made); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// A reading of one directory does not apply to another one that is written.
func TestUnchangedElsewhere(t *testing.T) {
	t.Parallel()
	made := cacheplan.Exported{Content: "sha256:00"}
	for line, want := range map[string]bool{"type=local,dest=/c": true, "type=local,src=/c,dest=/c/": true, "type=local,src=/c,dest=/d": false} {
		for _, g := range []*gateway.Gateway{testkit.Gateway(t), nil} {
			c := real(t, nil, line).(backends.GatewayWritten)
			own := reading(t, app, c, "b-main")
			own.Manifest.Record = backends.Record{Time: time.Now(), Result: backends.ResultKey(c.Options(), made.Content)}
			d := destinations([]backends.Reading{own}, g, c)[0]
			if got := d.Unchanged(made); got != want {
				t.Errorf("%s, gateway %t: %t", line, g != nil, got)
			}
		}
	}
}

// An export that is committed is unchanged in the next build, written in either way.
func TestCommitThenUnchanged(t *testing.T) {
	t.Parallel()
	made := cacheplan.Exported{Content: "sha256:00"}
	c, g := newMemoryCache("shelf"), testkit.Gateway(t)
	m, _, _ := app.Cache(t, "me")
	made.Manifest = m.Descriptor().Digest
	for _, through := range []*gateway.Gateway{g, nil} {
		d := destinations(nil, through, c)[0]
		if through == nil { // as if BuildKit had written it
			if err := c.PutManifest(t.Context(), "b-main", m); err != nil {
				t.Fatal(err)
			}
		} else {
			put(t, g, "/v2/d0/manifests/b-main", string(m.Raw))
		}
		if errs := outcomes(d.Commit(t.Context(), made)); errs[0] != nil {
			t.Fatal(errs)
		}
		written, err := c.Manifest(t.Context(), "b-main")
		if err != nil {
			t.Fatal(err)
		}
		if r := written.Record; r.Branch != "main" || r.Commit != "33e6d73fee" || r.Version != "v1" || time.Since(r.Time) > time.Minute {
			t.Errorf("record %+v", r)
		}
		own := backends.Reading{Source: scope.Source{Name: "b-main"}, From: c, Manifest: written}
		again := destinations([]backends.Reading{own}, through, c)[0]
		if !again.Unchanged(made) || again.Unchanged(cacheplan.Exported{Content: "sha256:01"}) {
			t.Errorf("unchanged: %t, and with another result %t", again.Unchanged(made), again.Unchanged(cacheplan.Exported{Content: "sha256:01"}))
		}
	}
}

// put sends a body as BuildKit does.
func put(t testing.TB, g *gateway.Gateway, path, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+g.Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(g.Credentials())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Fatal(response.Status)
	}
}

// The blobs of a reading are asked for once, all together.
func TestExpectedBlobs(t *testing.T) {
	t.Parallel()
	c, g := newMemoryCache("shelf"), testkit.Gateway(t)
	r := reading(t, app, c, "b-main")
	_, _, blobs := app.Cache(t, "b-main")
	for d, content := range blobs {
		c.Set(d, content)
	}
	destinations([]backends.Reading{r, reading(t, app, c, "b-main")}, g, c)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+g.Host+"/v2/d0/blobs/"+r.Manifest.Layers[1].Digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(g.Credentials())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if asked := c.Asked(); response.StatusCode != http.StatusOK || len(asked) != 1 || len(asked[0]) != 2 {
		t.Errorf("%s, asked %v", response.Status, asked)
	}
}

// Lines of cache-from and cache-to are passed on as they are. An inline cache has no destination.
func TestVerbatim(t *testing.T) {
	t.Parallel()
	plan := cacheplan.New(cacheplan.Request{
		From: lines(t, cachespec.From, "type=registry,ref=ghcr.io/o/app:main", "type=gha,scope=x,token=canary"),
		To:   lines(t, cachespec.To, "type=s3,bucket=b,secret_access_key=canary,ignore-error=false", "type=inline", "type=local,dest=/c,ignore-error=true"),
	})
	if !plan.Inline {
		t.Error("the inline cache is not detected")
	}
	var got strings.Builder
	for _, e := range plan.Reads.Imports(t.Context()) {
		fmt.Fprintln(&got, entryText(e))
	}
	for _, s := range plan.Reads.Outcomes() {
		fmt.Fprintln(&got, s.Cache, s.State)
	}
	for _, d := range plan.Destinations() {
		fmt.Fprintf(&got, "%s: %s\n", names(d), entryText(d.Entry))
	}
	const want = `registry ref=ghcr.io/o/app:main
gha scope=x token=canary
registry ghcr.io/o/app:main absent
gha x absent
[s3 b] [true]: s3 bucket=b secret_access_key=canary
[local /c] [false]: local dest=/c
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// A line of cache-to needs only its export: no commit follows.
func TestVerbatimExport(t *testing.T) {
	t.Parallel()
	d := cacheplan.New(cacheplan.Request{To: lines(t, cachespec.To, "type=s3,bucket=b,ignore-error=false")}).Destinations()[0]
	if names(d) != "[s3 b] [true]" || d.Name != "" || entryText(d.Entry) != "s3 bucket=b" || d.Answers || d.Unchanged(cacheplan.Exported{Content: "sha256:00"}) {
		t.Errorf("%+v", d)
	}
	if errs := outcomes(d.Commit(t.Context(), cacheplan.Exported{})); len(errs) != 1 || errs[0] != nil {
		t.Error(errs)
	}
}

// The record is added to the manifest that BuildKit pushed, and to no other.
func TestCommitToRegistry(t *testing.T) {
	t.Parallel()
	host := testkit.StartRegistry(t).Host
	c := real(t, nil, "type=registry,ref="+host+"/o/app")
	pushed := pushImage(t, host+"/o/app:cache-b-main").Descriptor().Digest
	d := destinations(nil, testkit.Gateway(t), c)[0]
	for _, test := range []struct {
		manifest digest.Digest
		branch   string
	}{
		{digest.FromString("another build's"), ""},
		{pushed, "main"},
		{pushed, "main"}, // the tag has moved to another manifest
	} {
		if errs := outcomes(d.Commit(t.Context(), cacheplan.Exported{Content: "sha256:00", Manifest: test.manifest})); errs[0] != nil {
			t.Error(errs)
		}
		if m, err := c.Scopes().Manifest(t.Context(), "b-main"); err != nil || m.Record.Branch != test.branch {
			t.Errorf("record %+v, %v", m.Record, err)
		}
	}
	gone := cacheplan.New(cacheplan.Request{Caches: []backends.Backend{c}, Scopes: scope.Plan{Write: "b-gone"}}).Destinations()[0]
	if errs := outcomes(gone.Commit(t.Context(), cacheplan.Exported{})); errs[0] == nil || !strings.Contains(errs[0].Error(), "attach the scope's record: ") {
		t.Errorf("for a scope that is gone: %v", errs)
	}
}

// pushImage pushes an image, and returns its manifest.
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
	made := cacheplan.Exported{Image: image.Descriptor().Digest}
	plan := cacheplan.New(cacheplan.Request{Caches: []backends.Backend{c}, Scopes: writeMain, Gateway: testkit.Gateway(t)})
	d := plan.Destinations()[0]
	if !plan.Inline || d.Entry.Type != "" || d.Unchanged(made) {
		t.Errorf("%+v", d)
	}
	if errs := outcomes(d.Commit(t.Context(), made)); errs[0] != nil {
		t.Fatal(errs)
	}
	tag, err := name.NewTag(host + "/o/app:cache-b-main")
	if err != nil {
		t.Fatal(err)
	}
	if scoped, err := remote.Head(tag); err != nil || scoped.Digest.String() != made.Image.String() {
		t.Errorf("tagged %v, %v", scoped, err)
	}
	own := backends.Reading{Source: scope.Source{Name: "b-main"}, From: c, Manifest: image}
	d = destinations([]backends.Reading{own}, nil, c)[0]
	if !d.Unchanged(made) || d.Unchanged(cacheplan.Exported{Image: digest.FromString("other")}) {
		t.Error("the digest of the image must decide whether it is unchanged")
	}
}

// An empty cache that BuildKit wrote gives way to the one that was read before, with its record.
func TestEmptyGivesWay(t *testing.T) {
	t.Parallel()
	c := newMemoryCache("shelf")
	good := reading(t, app, c, "b-main")
	empty, err := backends.NewManifest([]byte("{}"), nil, backends.Record{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		readings []backends.Reading
		err      error
		want     backends.Manifest
	}{
		{"a good cache was read", []backends.Reading{good}, cacheplan.ErrEmpty, good.Manifest},
		{"nothing was read", nil, nil, empty},
	} {
		if err := c.PutManifest(t.Context(), "b-main", empty); err != nil {
			t.Fatal(err)
		}
		d := destinations(test.readings, nil, c)[0]
		if errs := outcomes(d.Commit(t.Context(), cacheplan.Exported{Content: "sha256:00"})); !errors.Is(errs[0], test.err) {
			t.Errorf("%s: %v", test.name, errs)
		}
		if m, err := c.Manifest(t.Context(), "b-main"); err != nil || len(m.Layers) != len(test.want.Layers) {
			t.Errorf("%s: %d layers, %v", test.name, len(m.Layers), err)
		}
	}
}
