package backends_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// gha is the cache of a job on a server, with more attributes.
func gha(t testing.TB, env map[string]string, attrs string) backends.GatewayWritten {
	t.Helper()
	getenv := func(name string) string { return env[name] }
	return backend(t, cachespec.Environment{Getenv: getenv}, "type=gha"+attrs).(backends.GatewayWritten)
}

// ghaWays are the versions of the service, each with a new server.
var ghaWays = map[string]func(t testing.TB) map[string]string{
	"v1": func(t testing.TB) map[string]string { return testkit.StartGHA1(t).Env() },
	"v2": func(t testing.TB) map[string]string {
		server := testkit.StartGHA(t)
		return server.Env(server.Token("refs/heads/main"))
	},
}

func withRecord(t testing.TB, m backends.Manifest, commit string) backends.Manifest {
	t.Helper()
	mine := record
	mine.Commit = commit
	m, err := m.WithRecord(mine)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestGHAStore(t *testing.T) {
	t.Parallel()
	for version, start := range ghaWays {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			env := start(t)
			store, c := gha(t, env, "").Destination(), newCache(t, imageManifest, "one", "two")
			if _, err := store.Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
				t.Errorf("a missing index: %v", err)
			}
			c.put(t, store)
			if err := store.PutManifest(t.Context(), "b-main", withRecord(t, c.Manifest, "first")); err != nil {
				t.Fatal(err)
			}
			readCache := gha(t, env, "")
			got, err := readCache.Scopes().Manifest(t.Context(), "b-main")
			if err != nil {
				t.Fatal(err)
			}
			if got.Record.Commit != "first" || got.Record.Branch != record.Branch || len(got.Layers) != 2 || got.Inline == nil {
				t.Errorf("record %+v, layers %v", got.Record, got.Layers)
			}
			for i, content := range []string{"one", "two"} {
				if d := got.Layers[i]; read(t, store, d.Digest, 0) != content || read(t, store, d.Digest, 1) != content[1:] {
					t.Errorf("layer %d is not %q", i, content)
				}
			}
			if s := verified(t.Context(), []backends.Backend{readCache}, plan("b-main"), time.Minute)[0]; outcome(s) != loaded {
				t.Errorf("state %s, error %v", outcome(s), s.Err)
			}
			if _, err := store.Open(t.Context(), digest.FromString("nothing"), 0); !errors.Is(err, backends.ErrAbsent) {
				t.Errorf("a missing blob: %v", err)
			}
			if _, err := gha(t, env, ",scope=other").Scopes().Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
				t.Errorf("another scope's index: %v", err)
			}
		})
	}
}

// An index is replaced by its next version, and a record belongs to exactly one index.
func TestGHAReplace(t *testing.T) {
	t.Parallel()
	server := testkit.StartGHA(t)
	env := server.Env(server.Token("refs/heads/main"))
	first, second := newCache(t, imageManifest, "one"), newCache(t, imageManifest, "one", "two")
	// Two jobs that have read the same state, and one that has read none.
	a, b, c := gha(t, env, "").Destination(), gha(t, env, "").Destination(), gha(t, env, "").Destination()
	for _, store := range []backends.Store{a, b} {
		if _, err := store.Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
			t.Fatal(err)
		}
		second.put(t, store)
	}
	for i, put := range []struct {
		store backends.Store
		cache cache
	}{{a, first}, {b, second}, {c, first}} {
		put.cache.put(t, put.store)
		if err := put.store.PutManifest(t.Context(), "b-main", withRecord(t, put.cache.Manifest, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		m, err := gha(t, env, "").Scopes().Manifest(t.Context(), "b-main")
		if err != nil || m.Record.Commit != fmt.Sprint(i) || len(m.Layers) != len(put.cache.Layers) {
			t.Errorf("record %+v, %d layers, error %v", m.Record, len(m.Layers), err)
		}
	}
	// An index that BuildKit writes has no record; one is added without writing the index again.
	if err := a.PutManifest(t.Context(), "b-main", second.Manifest); err != nil {
		t.Fatal(err)
	}
	m, err := a.Manifest(t.Context(), "b-main")
	if err != nil || m.Record != (backends.Record{}) {
		t.Errorf("record %+v, error %v", m.Record, err)
	}
	if err := a.PutManifest(t.Context(), "b-main", withRecord(t, m, "late")); err != nil {
		t.Fatal(err)
	}
	if m, err := gha(t, env, "").Scopes().Manifest(t.Context(), "b-main"); err != nil || m.Record.Commit != "late" {
		t.Errorf("record %+v, error %v", m.Record, err)
	}
	if got := len(server.Entries("index-")); got != 4 {
		t.Errorf("%d versions of the index: %v", got, server.Entries("index-"))
	}
}

// Contents that do not match the descriptor never become entries, sent in one request or in many.
func TestGHAPutChecks(t *testing.T) {
	t.Parallel()
	for version, start := range ghaWays {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			store := gha(t, start(t), "").Destination()
			for _, size := range []int{0, 1, 1 << 20, 1<<20 + 1, 8 << 20, 8<<20 + 1, 17 << 20} {
				content := make([]byte, size)
				rand.Read(content)
				desc := ocispecs.Descriptor{Digest: digest.FromBytes(content), Size: int64(size)}
				putWrong(t, store, desc, content)
				// In version 2 a build waits for an entry that was begun, so the test sends other
				// content.
				content = append(content, 'x')
				desc = ocispecs.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
				if err := store.Put(t.Context(), desc, iotest.HalfReader(bytes.NewReader(content))); err != nil {
					t.Fatal(err)
				}
				if read(t, store, desc.Digest, 0) != string(content) {
					t.Errorf("%d bytes were read back differently", size)
				}
				sizes, err := store.Stat(t.Context(), []digest.Digest{desc.Digest, digest.FromString("other")})
				if err != nil || len(sizes) != 1 || sizes[desc.Digest] != backends.UnknownSize {
					t.Errorf("sizes %v, error %v", sizes, err)
				}
			}
		})
	}
}

// putWrong sends contents that do not match the descriptor.
func putWrong(t testing.TB, store backends.Store, desc ocispecs.Descriptor, content []byte) {
	t.Helper()
	wrong := func(what string, n int64, body io.Reader) {
		t.Helper()
		other := ocispecs.Descriptor{Digest: digest.FromString(what + desc.Digest.String()), Size: desc.Size + n}
		if err := store.Put(t.Context(), other, body); err == nil {
			t.Errorf("%d bytes, %s: stored", desc.Size, what)
		}
		if sizes, err := store.Stat(t.Context(), []digest.Digest{other.Digest}); err != nil || len(sizes) > 0 {
			t.Errorf("%d bytes, %s: sizes %v, error %v", desc.Size, what, sizes, err)
		}
	}
	wrong("other", 0, bytes.NewReader(content))
	wrong("short", 1, bytes.NewReader(content))
	wrong("long", 0, io.MultiReader(bytes.NewReader(content), strings.NewReader("more")))
	wrong("interrupted", 0, io.MultiReader(bytes.NewReader(content), iotest.ErrReader(errors.New("the sender failed"))))
}

// Only a missing entry is absent. No error contains a credential.
func TestGHAFaults(t *testing.T) {
	t.Parallel()
	server, other := testkit.StartGHA(t), testkit.StartGHA(t)
	good := server.Env(server.Token("refs/heads/main"))
	down := server.Env(server.Token("refs/heads/main"))
	down["ACTIONS_RESULTS_URL"] = "http://127.0.0.1:1/"
	for what, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"another server's token": {server.Env(other.Token("refs/heads/main")), "unauthenticated"},
		"an expired token":       {server.Env(server.Expired("refs/heads/main")), "cache token expired"},
		"no token at all":        {server.Env("canary-of-nobody"), "the runner's token is not valid"},
		"no listener":            {down, "connection refused"},
	} {
		store := gha(t, test.env, "").Destination()
		_, manifest := store.Manifest(t.Context(), "b-main")
		_, open := store.Open(t.Context(), digest.FromString("nothing"), 0)
		_, stat := store.Stat(t.Context(), []digest.Digest{digest.FromString("nothing")})
		put := store.Put(t.Context(), ocispecs.Descriptor{Digest: digest.FromString("nothing"), Size: 7}, strings.NewReader("nothing"))
		for operation, err := range map[string]error{"manifest": manifest, "open": open, "stat": stat, "put": put} {
			if err == nil || errors.Is(err, backends.ErrAbsent) || !strings.Contains(err.Error(), test.want) || hasSecret(err.Error(), test.env) {
				t.Errorf("%s, %s: %v, want %s", what, operation, err, test.want)
			}
		}
	}
	// An entry whose content is lost is absent.
	store, c := gha(t, good, "").Destination(), newCache(t, imageManifest, "one")
	c.put(t, store)
	server.Lose(t, "buildkit-blob-")
	if _, err := store.Open(t.Context(), c.Layers[0].Digest, 0); !errors.Is(err, backends.ErrAbsent) || hasSecret(err.Error(), good) {
		t.Errorf("lost content: %v", err)
	}
}

func hasSecret(text string, env map[string]string) bool {
	return strings.Contains(text, env["ACTIONS_RUNTIME_TOKEN"]) || strings.Contains(text, "sig=")
}

// A busy service is asked again after the time that it names.
func TestGHABusy(t *testing.T) {
	t.Parallel()
	server := testkit.StartGHA(t)
	env := server.Env(server.Token("refs/heads/main"))
	store, c := gha(t, env, "").Destination(), newCache(t, imageManifest, "one")
	const wait = time.Second
	server.Busy(1, wait)
	began := time.Now()
	c.put(t, store)
	server.Busy(2, wait)
	if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Fatal(err)
	}
	server.Busy(2, wait)
	if _, err := store.Manifest(t.Context(), "b-main"); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 3*wait {
		t.Errorf("three waits of %s took %s", wait, took)
	}
	server.Down(2)
	if _, err := store.Manifest(t.Context(), "b-main"); err != nil {
		t.Errorf("a temporary fault: %v", err)
	}
	server.Down(100)
	if _, err := store.Manifest(t.Context(), "b-main"); err == nil || errors.Is(err, backends.ErrAbsent) || !strings.Contains(err.Error(), "unavailable") {
		t.Errorf("a permanent fault: %v", err)
	}
	server.Down(0)
	server.Busy(100, time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := store.Manifest(ctx, "b-main"); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
		t.Errorf("waiting did not end: %v", err)
	}
	if _, err := gha(t, env, ",timeout=1ms").Scopes().Manifest(t.Context(), "b-main"); err == nil || !strings.Contains(err.Error(), "maximum timeout") {
		t.Errorf("timeout: %v", err)
	}
}

// With a token for GitHub's API the blobs are listed instead of looked up. Blobs that are missing
// from the list are looked up.
func TestGHALists(t *testing.T) {
	t.Parallel()
	server := testkit.StartGHA(t)
	env := server.Env(server.Token("refs/heads/main"))
	var contents []string
	for i := range 120 { // more than a page
		contents = append(contents, fmt.Sprint("layer ", i))
	}
	store, c := gha(t, env, "").Destination(), newCache(t, imageManifest, contents...)
	c.put(t, store)
	if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Fatal(err)
	}
	lookups := func(env map[string]string) (n, lists int) {
		t.Helper()
		server.Requests()
		readCache := gha(t, env, ",ghtoken=any")
		if s := verified(t.Context(), []backends.Backend{readCache}, plan("b-main"), time.Minute)[0]; outcome(s) != loaded {
			t.Errorf("state %s, error %v", outcome(s), s.Err)
		}
		for _, r := range server.Requests() {
			if strings.HasPrefix(r, "list ") {
				lists++
			} else {
				n++
			}
		}
		return n, lists
	}
	if n, lists := lookups(env); n != 2 || lists != 2 { // index and record; two pages
		t.Errorf("%d look-ups, %d pages", n, lists)
	}
	env["GITHUB_API_URL"] += "/none"
	if n, lists := lookups(env); n != 122 || lists != 0 {
		t.Errorf("without a list: %d look-ups, %d pages", n, lists)
	}
}

// Six scopes with the same blobs cost three round trips, and a look-up for each blob.
func TestGHAReadsAtOnce(t *testing.T) {
	t.Parallel()
	server := testkit.StartGHA(t)
	var contents, refs []string
	var p scope.Plan
	for i := range 12 {
		contents = append(contents, fmt.Sprint("layer ", i))
	}
	c := newCache(t, imageManifest, contents...)
	for i := range 6 {
		ref := fmt.Sprint("refs/heads/", i)
		refs, p.Read = append(refs, ref), append(p.Read, scope.Source{Name: scope.RefName(ref)})
		store := gha(t, server.Env(server.Token(ref, refs...)), "").Destination()
		c.put(t, store)
		if err := store.PutManifest(t.Context(), scope.RefName(ref), c.Manifest); err != nil {
			t.Fatal(err)
		}
	}
	env := server.Env(server.Token("refs/heads/main", refs...))
	const roundTrip = 200 * time.Millisecond
	env["ACTIONS_RESULTS_URL"] = "http://" + testkit.Delay(t, strings.TrimPrefix(server.URL, "http://"), roundTrip)
	server.Requests()
	began := time.Now()
	for _, s := range verified(t.Context(), []backends.Backend{gha(t, env, "")}, p, time.Minute) {
		if outcome(s) != loaded {
			t.Errorf("%s: %v", s.Name, s.Err)
		}
	}
	took, asked := time.Since(began), len(server.Requests())
	t.Logf("%d scopes of %d blobs took %s and %d requests", len(p.Read), len(contents), took, asked)
	if took > 5*roundTrip || asked > 12+2*len(contents) {
		t.Errorf("%d scopes took %s, at %s a round trip, and %d requests", len(p.Read), took, roundTrip, asked)
	}
}
