package upkeep

import (
	"cmp"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

func scopeName(n string) scope.Name { return scope.Name(n) }

// opened is a cache for upkeep, and the store that builds write.
func opened(t testing.TB, env cachespec.Environment, line string) (Cache, backends.Store) {
	t.Helper()
	b := testkit.Backend(t, env, line)
	listing, why := backends.List(b, "canary-of-the-api")
	if listing == nil {
		t.Fatal(why)
	}
	var store any = b.Scopes()
	if written, ok := b.(backends.GatewayWritten); ok {
		store = written.Destination()
	}
	return Cache{b.String(), listing}, store.(backends.Store)
}

// stores are a line for each kind of store. In those of objects every blob that is found is touched, so that the grace period alone counts.
func stores(t testing.TB) map[string]string {
	t.Helper()
	return map[string]string{
		"local":    "type=local,dest=" + t.TempDir(),
		"s3":       testkit.StartS3(t).Line(",prefix=team/,touch_refresh=0s"),
		"azblob":   testkit.StartAzblob(t).Line(",prefix=team,touch_refresh=0s"),
		"registry": "type=registry,ref=" + testkit.StartRegistry(t).Host + "/o/app",
	}
}

func populate(t testing.TB, store backends.Store, n scope.Name, r backends.Record, contents ...string) {
	t.Helper()
	if err := testkit.Populate(t, store, n, r, contents...); err != nil {
		t.Fatal(err)
	}
}

// has tells which of the contents are blobs of a store.
func has(t testing.TB, store backends.Scopes, contents ...string) string {
	t.Helper()
	var there []string
	for _, c := range contents {
		body, err := store.Open(t.Context(), digest.FromString(c), 0)
		if err != nil {
			continue
		}
		if got, err := io.ReadAll(body); err == nil && string(got) == c {
			there = append(there, c)
		}
		body.Close()
	}
	return strings.Join(there, " ")
}

func take(t testing.TB, c Cache) Stock {
	t.Helper()
	stock, err := Take(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return stock
}

func names(stock Stock) string {
	var all []string
	for _, s := range stock.Scopes {
		all = append(all, string(s.Name))
	}
	return strings.Join(all, " ")
}

// TestStores: in every store the scopes are listed with their sizes, and a prune removes what it should: the scopes, and the blobs that no
// other one names, and no young blob.
func TestStores(t *testing.T) {
	t.Parallel()
	old := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	for name, line := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, store := opened(t, cachespec.Environment{}, line)
			if stock := take(t, c); len(stock.Scopes) > 0 {
				t.Fatalf("an empty store has %v", stock.Scopes)
			}
			populate(t, store, "b-main", backends.Record{Branch: "main", Time: old, Created: old, Mode: "max", Variants: 3}, "base", "main's own")
			populate(t, store, "b-old", backends.Record{Branch: "old", Time: old}, "base", "old's own")
			populate(t, store, "b-old.worker", backends.Record{Branch: "old", Key: "worker", Time: old}, "base")
			populate(t, store, "b-young", backends.Record{Branch: "young", Time: time.Now()}, "young's own")
			populate(t, store, scope.Name("b-old").Mounts(), backends.Record{Time: old}, "pack of mounts")
			populate(t, store, "latest", backends.Record{}, "another program's")
			if err := store.Put(t.Context(), descriptor("nobody's"), strings.NewReader("nobody's")); err != nil {
				t.Fatal(err)
			}
			stock := take(t, c)
			mounts, latest := scope.Name("b-old").Mounts(), map[string]string{"registry": "cache-latest"}[name]
			latest = cmp.Or(latest, "latest")
			if got, want := names(stock), "b-main b-old b-old.worker b-young "+string(mounts)+" "+latest; !sameWords(got, want) {
				t.Fatalf("scopes %s, want %s", got, want)
			}
			main := stock.find("b-main")
			if main.Shared != 4 || main.Own < 10 || main.Layers != 2 || main.Variants != 3 || main.Mode != "max" || main.Compression != "zstd" ||
				!main.Created.Equal(old) || !main.Used.Equal(old) || main.Of != "branch main" || main.Foreign {
				t.Errorf("main is %+v", main)
			}
			if m := stock.find(mounts); m.Of != "cache mounts of b-old" {
				t.Errorf("the mounts are %+v", m)
			}
			if f := stock.find(scopeName(latest)); !f.Foreign || f.Of != "another program" {
				t.Errorf("latest is %+v", f)
			}
			all := []string{"base", "main's own", "old's own", "young's own", "pack of mounts", "another program's", "nobody's"}
			refs := Refs{names: map[scope.Name]bool{"b-main": true}}

			rules := Rules{Gone: true, Grace: time.Hour, Dry: true}
			if done := prune(t, c, rules, refs); len(done.Removed) != 3 || names(take(t, c)) != names(stock) || has(t, store, all...) != strings.Join(all, " ") {
				t.Errorf("a dry run did %+v", done)
			}
			rules.Dry = false
			if done := prune(t, c, rules, refs); len(done.Removed) != 3 || len(done.Left) > 0 || done.Swept.Blobs > 0 {
				t.Errorf("with grace: %+v", done)
			}
			if got := names(take(t, c)); got != "b-main b-young "+latest || has(t, store, all...) != strings.Join(all, " ") {
				t.Errorf("with grace: scopes %s, blobs %s", got, has(t, store, all...))
			}
			rules.Grace = time.Nanosecond
			done := prune(t, c, rules, refs)
			if len(done.Removed) != 1 || names(take(t, c)) != "b-main "+latest {
				t.Errorf("without grace: %+v", done)
			}
			kept := "base main's own another program's"
			if name == "registry" {
				kept = strings.Join(all, " ")
			}
			if got := has(t, store, all...); got != kept || (name == "registry") != (done.Later != "") {
				t.Errorf("blobs %s, want %s; %q", got, kept, done.Later)
			}
			if m, err := store.Manifest(t.Context(), "b-main"); err != nil || m.Record.Branch != "main" {
				t.Errorf("main's cache: %v", err)
			}
			if done := prune(t, c, rules, refs); len(done.Removed) > 0 || done.Swept != (backends.Swept{}) {
				t.Errorf("a second prune did %+v", done)
			}
		})
	}
}

func (s Stock) find(n scope.Name) Scope {
	i := slices.IndexFunc(s.Scopes, func(s Scope) bool { return s.Name == n })
	if i < 0 {
		return Scope{}
	}
	return s.Scopes[i]
}

func sameWords(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

func descriptor(content string) ocispecs.Descriptor {
	return ocispecs.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
}

func prune(t testing.TB, c Cache, rules Rules, refs Refs) Pruned {
	t.Helper()
	done, err := Prune(t.Context(), c, rules.Choose(take(t, c), refs, time.Now()), rules)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// TestUnreadable: while the contents of one cache are not known, no blob is removed.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	server := testkit.StartS3(t)
	c, store := opened(t, cachespec.Environment{}, server.Line(",touch_refresh=0s"))
	populate(t, store, "b-old", backends.Record{}, "old's own")
	server.Write(t, "manifests/strange", "no JSON")
	stock := take(t, c)
	if s := stock.find("strange"); s.Problem == "" || !s.Foreign {
		t.Errorf("strange is %+v", s)
	}
	rules := Rules{Gone: true, Grace: time.Nanosecond}
	done, err := Prune(t.Context(), c, rules.Choose(stock, Refs{}, time.Now()), rules)
	if err == nil || !strings.Contains(err.Error(), "no blob is removed: read s3://cache/manifests/strange") || len(done.Removed) != 1 || has(t, store, "old's own") == "" {
		t.Errorf("%+v, %v", done, err)
	}
	rules = Rules{Scopes: []string{"strange"}, Foreign: true, Grace: time.Nanosecond}
	if done := prune(t, c, rules, Refs{}); len(done.Removed) != 1 || done.Swept.Blobs != 1 || has(t, store, "old's own") != "" {
		t.Errorf("after that: %+v", done)
	}
}

// TestSharedBlobs: where other folders may have manifests that name the blobs, they stay.
func TestSharedBlobs(t *testing.T) {
	t.Parallel()
	c, store := opened(t, cachespec.Environment{}, testkit.StartS3(t).Line(",manifests_prefix=mine/,touch_refresh=0s"))
	populate(t, store, "b-old", backends.Record{}, "old's own")
	rules := Rules{Gone: true, Grace: time.Nanosecond}
	done, err := Prune(t.Context(), c, rules.Choose(take(t, c), Refs{}, time.Now()), rules)
	if err == nil || !strings.Contains(err.Error(), "set blobs_prefix") || len(done.Removed) != 1 || has(t, store, "old's own") == "" {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestOtherCachesName: in a bucket with several names, the scopes of another name are another program's.
func TestOtherCachesName(t *testing.T) {
	t.Parallel()
	server := testkit.StartS3(t)
	c, store := opened(t, cachespec.Environment{}, server.Line(",name=app"))
	_, others := opened(t, cachespec.Environment{}, server.Line(",name=app-b"))
	populate(t, store, "b-main", backends.Record{Branch: "main"}, "one")
	populate(t, others, "b-feature-a-951d42dc02dc7431", backends.Record{Branch: "feature/a"}, "two")
	for _, s := range take(t, c).Scopes {
		if s.Foreign == (s.Name == "b-main") {
			t.Errorf("%+v", s)
		}
	}
}

// TestRegistryTags: a manifest that another tag has stays; a registry that removes nothing is told with what to set.
func TestRegistryTags(t *testing.T) {
	t.Parallel()
	for _, deletes := range []bool{true, false} {
		server := testkit.StartRegistry(t)
		if !deletes {
			server = testkit.StartRegistryWithoutDeletes(t)
		}
		c, store := opened(t, cachespec.Environment{}, "type=registry,ref="+server.Host+"/o/app")
		populate(t, store, "b-one", backends.Record{}, "same")
		populate(t, store, "b-two", backends.Record{}, "same")
		rules := Rules{Scopes: []string{"b-one"}}
		done, err := Prune(t.Context(), c, rules.Choose(take(t, c), Refs{}, time.Now()), rules)
		got := names(take(t, c))
		switch {
		case deletes && (err != nil || len(done.Removed) != 1 || got != "b-two"):
			t.Errorf("%+v, %v; scopes %s", done, err, got)
		case !deletes && (err == nil || len(done.Left) != 1 || got != "b-one b-two"):
			t.Errorf("without deletes: %+v, %v; scopes %s", done, err, got)
		}
		rules.Scopes = []string{"b-*"}
		done, err = Prune(t.Context(), c, rules.Choose(take(t, c), Refs{}, time.Now()), rules)
		if deletes != (err == nil) || !deletes && !strings.Contains(err.Error(), "REGISTRY_STORAGE_DELETE_ENABLED") {
			t.Errorf("deletes %t: %+v, %v", deletes, done, err)
		}
	}
}

// TestInline: the tag goes, and the image stays under its own.
func TestInline(t *testing.T) {
	t.Parallel()
	server := testkit.StartRegistry(t)
	image := server.Host + "/o/app"
	c, _ := opened(t, cachespec.Environment{Images: []string{image + ":v1"}}, "type=inline")
	_, store := opened(t, cachespec.Environment{}, "type=registry,ref="+image)
	populate(t, store, "b-old", backends.Record{}, "layer")
	m, err := store.Manifest(t.Context(), "b-old")
	if err != nil {
		t.Fatal(err)
	}
	push(t, "http://"+server.Host+"/v2/o/app/manifests/v1", m)
	if done := prune(t, c, Rules{Scopes: []string{"b-old"}}, Refs{}); len(done.Removed) != 1 {
		t.Errorf("%+v", done)
	}
	if got := names(take(t, c)); got != "" || status(t, "http://"+server.Host+"/v2/o/app/manifests/v1") != http.StatusOK {
		t.Errorf("scopes %q; the image: %d", got, status(t, "http://"+server.Host+"/v2/o/app/manifests/v1"))
	}
}

func push(t *testing.T, at string, m backends.Manifest) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, at, strings.NewReader(string(m.Raw)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", m.MediaType)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		t.Fatal(answer.Status)
	}
}

func status(t *testing.T, at string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", ocispecs.MediaTypeImageManifest)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}
