package backends_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// plan reads and writes one scope.
func plan(n scope.Name) scope.Plan { return scope.Plan{Write: n, Read: []scope.Source{{Name: n}}} }

// objects is the store that a cache in an object store is written to.
func objects(t testing.TB, line string) backends.Store {
	t.Helper()
	return backend(t, cachespec.Environment{}, line).(backends.GatewayWritten).Destination()
}

// onEachServer runs a test for each type of object store, with a new server.
func onEachServer(t *testing.T, test func(*testing.T, testkit.ObjectServer)) {
	t.Parallel()
	for kind, start := range testkit.ObjectServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

func TestObjectsStore(t *testing.T) { onEachServer(t, objectsStore) }

func objectsStore(t *testing.T, server testkit.ObjectServer) {
	line := server.Line(",prefix=a b+c/ä,name=web")
	store, c := objects(t, line), newCache(t, imageManifest, "one", "two")
	c.put(t, store)
	m, err := c.WithRecord(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.PutManifest(t.Context(), "b-main", m); err != nil {
		t.Fatal(err)
	}
	got, err := backend(t, cachespec.Environment{}, line).Scopes().Manifest(t.Context(), "b-main")
	if err != nil {
		t.Fatal(err)
	}
	if got.Record != record || len(got.Layers) != 2 || got.Inline == nil {
		t.Errorf("record %+v, layers %v", got.Record, got.Layers)
	}
	for i, content := range []string{"one", "two"} {
		if d := got.Layers[i]; read(t, store, d.Digest, 0) != content || read(t, store, d.Digest, 1) != content[1:] {
			t.Errorf("layer %d is not %q", i, content)
		}
	}
	sources := verified(t.Context(), []backends.Backend{backend(t, cachespec.Environment{}, line)}, plan("b-main"), time.Minute)
	if s := sources[0]; outcome(s) != loaded || !bytes.Equal(s.Config, got.Inline) {
		t.Errorf("state %s, error %v", outcome(s), s.Err)
	}
	// The config is not stored as a blob.
	var keys []string
	for _, o := range server.Objects(t, "") {
		keys = append(keys, o[:strings.LastIndex(o, " ")])
	}
	want := []string{"a b+c/ä/manifests/web-b-main"}
	for _, l := range got.Layers {
		want = append(want, "a b+c/ä/blobs/"+l.Digest.String())
	}
	if slices.Sort(want); !slices.Equal(keys, want) {
		t.Errorf("objects %q, want %q", keys, want)
	}
}

// A record that is attached to BuildKit's own manifest keeps the rest of it.
func TestObjectsAnnotate(t *testing.T) { onEachServer(t, objectsAnnotate) }

func objectsAnnotate(t *testing.T, server testkit.ObjectServer) {
	store, c := objects(t, server.Line("")), newCache(t, imageManifest, "one")
	c.put(t, store)
	if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Fatal(err)
	}
	before, err := store.Manifest(t.Context(), "b-main")
	if err != nil {
		t.Fatal(err)
	}
	if before.Record != (backends.Record{}) {
		t.Errorf("an unexpected record: %+v", before.Record)
	}
	m, err := before.WithRecord(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.PutManifest(t.Context(), "b-main", m); err != nil {
		t.Fatal(err)
	}
	after, err := store.Manifest(t.Context(), "b-main")
	if err != nil || after.Record != record || !bytes.Equal(before.Inline, after.Inline) {
		t.Errorf("record %+v, config %s, error %v", after.Record, after.Inline, err)
	}
}

// Only a missing object is absent, and a container that the first write creates. Every other error
// is a failure.
func TestObjectsAbsent(t *testing.T) { onEachServer(t, objectsAbsent) }

func objectsAbsent(t *testing.T, server testkit.ObjectServer) {
	d := digest.FromString("nothing")
	absent := objects(t, server.Line(""))
	if _, err := absent.Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
		t.Errorf("a missing manifest: %v", err)
	}
	if _, err := absent.Open(t.Context(), d, 0); !errors.Is(err, backends.ErrAbsent) {
		t.Errorf("a missing blob: %v", err)
	}
	if sizes, err := absent.Stat(t.Context(), []digest.Digest{d}); err != nil || len(sizes) != 0 {
		t.Errorf("sizes %v, error %v", sizes, err)
	}
	failed := map[string]string{server.Denied(): "SignatureDoesNotMatch", server.At("127.0.0.1:1"): "connection refused"}
	switch s := server.(type) {
	case testkit.S3:
		failed[s.WithoutCredentials()+",access_key_id=nobody,secret_access_key=canary"] = "access key"
		failed[s.Elsewhere()] = "NoSuchBucket"
	case testkit.Azblob:
		failed[s.Denied()] = "AuthorizationFailure"
	}
	for line, want := range failed {
		store := objects(t, line)
		var eg errgroup.Group
		for what, ask := range map[string]func() error{
			"manifest": func() error { _, err := store.Manifest(t.Context(), "b-main"); return err },
			"open":     func() error { _, err := store.Open(t.Context(), d, 0); return err },
			"put": func() error {
				return store.Put(t.Context(), ocispecs.Descriptor{Digest: d, Size: 7}, strings.NewReader("nothing"))
			},
		} {
			eg.Go(func() error {
				err := ask()
				if err == nil || errors.Is(err, backends.ErrAbsent) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
					t.Errorf("%s: %v, want %s", what, err, want)
				}
				return nil
			})
		}
		_ = eg.Wait()
	}
}

// Contents that do not match the descriptor leave nothing in the store, sent in one part or in
// many.
func TestObjectsPutChecks(t *testing.T) { onEachServer(t, objectsPutChecks) }

func objectsPutChecks(t *testing.T, server testkit.ObjectServer) {
	store := objects(t, server.Line(""))
	for _, size := range []int{0, 1, 1 << 20, 5 << 20, 5<<20 + 1, 17 << 20} {
		content := make([]byte, size)
		rand.Read(content)
		desc := ocispecs.Descriptor{Digest: digest.FromBytes(content), Size: int64(size)}
		other := desc
		other.Digest = digest.FromString("other")
		short := desc
		short.Size++
		broken := io.MultiReader(bytes.NewReader(content), iotest.ErrReader(errors.New("the sender failed")))
		for what, err := range map[string]error{
			"other": store.Put(t.Context(), other, bytes.NewReader(content)),
			"short": store.Put(t.Context(), short, bytes.NewReader(content)),
			"long":  store.Put(t.Context(), desc, io.MultiReader(bytes.NewReader(content), strings.NewReader("more"))),
			"left":  store.Put(t.Context(), desc, broken),
		} {
			if err == nil {
				t.Errorf("%d bytes, %s: stored", size, what)
			}
		}
		if left := server.Objects(t, ""); len(left) > 0 {
			t.Fatalf("%d bytes: objects remain: %v", size, left)
		}
		if err := store.Put(t.Context(), desc, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if read(t, store, desc.Digest, 0) != string(content) {
			t.Errorf("%d bytes were read back differently", size)
		}
		sizes, err := store.Stat(t.Context(), []digest.Digest{desc.Digest, other.Digest})
		if err != nil || len(sizes) != 1 || sizes[desc.Digest] != desc.Size {
			t.Errorf("sizes %v, error %v", sizes, err)
		}
		server.Remove(t, "blobs/"+desc.Digest.String())
	}
	noneLeft(t, server)
}

func TestObjectsPutCancelled(t *testing.T) { onEachServer(t, objectsPutCancelled) }

func objectsPutCancelled(t *testing.T, server testkit.ObjectServer) {
	store := objects(t, server.Line(""))
	ctx, cancel := context.WithCancel(t.Context())
	content := make([]byte, 12<<20)
	desc := ocispecs.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	body := io.MultiReader(bytes.NewReader(content[:11<<20]), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, context.Cause(ctx)
	}))
	if err := store.Put(ctx, desc, body); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	noneLeft(t, server)
}

// noneLeft checks that no unfinished upload remains. Azure does not list them.
func noneLeft(t *testing.T, server testkit.ObjectServer) {
	t.Helper()
	if s3, ok := server.(testkit.S3); ok && len(s3.Uploads(t)) > 0 {
		t.Errorf("uploads left open: %v", s3.Uploads(t))
	}
	if left := server.Objects(t, ""); len(left) > 0 {
		t.Errorf("objects remain: %v", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Prefixes and names with the same beginning, or with parts such as "..", are kept apart.
func TestObjectsIsolation(t *testing.T) { onEachServer(t, objectsIsolation) }

func objectsIsolation(t *testing.T, server testkit.ObjectServer) {
	c := newCache(t, imageManifest, "one")
	places := []string{"", ",prefix=a", ",prefix=a/b", ",prefix=ab", ",prefix=a,name=b", ",name=a", ",prefix=a,manifests_prefix=b", ",prefix=blobs", ",prefix=manifests"}
	for i, place := range places {
		store := objects(t, server.Line(place))
		if _, err := store.Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
			t.Errorf("%q reads the cache of another prefix: %v", place, err)
		}
		c.put(t, store)
		mine := record
		mine.Commit = fmt.Sprint(i)
		m, err := c.WithRecord(mine)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.PutManifest(t.Context(), "b-main", m); err != nil {
			t.Fatal(err)
		}
	}
	for i, place := range places {
		m, err := objects(t, server.Line(place)).Manifest(t.Context(), "b-main")
		if err != nil || m.Record.Commit != fmt.Sprint(i) {
			t.Errorf("%q: record %+v, error %v", place, m.Record, err)
		}
	}
}

// A manifest that is damaged, or that names a missing blob, is no cache.
func TestObjectsDamaged(t *testing.T) { onEachServer(t, objectsDamaged) }

func objectsDamaged(t *testing.T, server testkit.ObjectServer) {
	readCache := backend(t, cachespec.Environment{}, server.Line(""))
	state := func() backends.Reading {
		return verified(t.Context(), []backends.Backend{readCache}, plan("b-main"), time.Minute)[0]
	}
	store, c := objects(t, server.Line("")), newCache(t, imageManifest, "one", "two")
	c.put(t, store)
	if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Fatal(err)
	}
	server.Remove(t, "blobs/"+c.Layers[1].Digest.String())
	if s := state(); outcome(s) != failed || !strings.Contains(s.Err.Error(), "1 of 2 blobs are gone") {
		t.Errorf("state %s, error %v", outcome(s), s.Err)
	}
	server.Write(t, "manifests/b-main", `{"layers":[`)
	if s := state(); outcome(s) != failed || !strings.Contains(s.Err.Error(), "parse cache config") {
		t.Errorf("state %s, error %v", outcome(s), s.Err)
	}
}

// TestObjectsChecked: a bit that is flipped on the way to a server is found by the server, in blobs of
// one request and in those of several.
func TestObjectsChecked(t *testing.T) { onEachServer(t, objectsChecked) }

func objectsChecked(t *testing.T, server testkit.ObjectServer) {
	proxy := testkit.StartFaulty(t, server.Address())
	proxy.Break(func(r *http.Request) bool { return r.Method == http.MethodPut && r.ContentLength > 1<<10 }, testkit.Changes(testkit.Flipped))
	for _, size := range []int{1 << 11, 17 << 20} {
		content := make([]byte, size)
		desc := ocispecs.Descriptor{Digest: digest.FromBytes(content), Size: int64(size)}
		if err := objects(t, server.At(proxy.Host)).Put(t.Context(), desc, bytes.NewReader(content)); err == nil {
			t.Errorf("%d bytes: the server keeps another content", size)
		}
		sizes, err := objects(t, server.Line("")).Stat(t.Context(), []digest.Digest{desc.Digest})
		if err != nil || len(sizes) > 0 {
			t.Errorf("%d bytes: %v, %v", size, sizes, err)
		}
	}
}
