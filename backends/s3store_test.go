package backends_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/backends/backendtest"
	"github.com/warmlayer/warmlayer/scope"
)

// plan reads and writes one scope.
func plan(n scope.Name) scope.Plan { return scope.Plan{Write: n, Read: []scope.Source{{Name: n}}} }

func bucket(t testing.TB, line string) backends.Store {
	t.Helper()
	return backend(t, backends.Options{}, line).(backends.Gated).Destination()
}

func TestS3Store(t *testing.T) {
	t.Parallel()
	server := backendtest.StartS3(t)
	line := server.Line(",prefix=a b+c/ä,name=web")
	store, c := bucket(t, line), newCache(t, imageManifest, "one", "two")
	c.put(t, store)
	m, err := c.WithRecord(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.PutManifest(t.Context(), "b-main", m); err != nil {
		t.Fatal(err)
	}
	got, err := backend(t, backends.Options{}, line).(backends.Keeper).Scopes().Manifest(t.Context(), "b-main")
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
	sources := backends.Read(t.Context(), []backends.Keeper{backend(t, backends.Options{}, line).(backends.Keeper)}, plan("b-main"), time.Minute)
	if s := sources[0]; s.State != backends.Loaded || !bytes.Equal(s.Config, got.Inline) {
		t.Errorf("state %s, error %v", s.State, s.Err)
	}
	// The config is no blob here.
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

// A record that is attached to what BuildKit wrote by itself does not change it.
func TestS3Annotate(t *testing.T) {
	t.Parallel()
	server := backendtest.StartS3(t)
	store, c := bucket(t, server.Line("")), newCache(t, imageManifest, "one")
	c.put(t, store)
	if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Fatal(err)
	}
	before, err := store.Manifest(t.Context(), "b-main")
	if err != nil {
		t.Fatal(err)
	}
	if before.Record != (backends.Record{}) {
		t.Errorf("nobody wrote the record %+v", before.Record)
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

// Only a missing object is absent; everything else has failed.
func TestS3Absent(t *testing.T) {
	t.Parallel()
	server := backendtest.StartS3(t)
	d := digest.FromString("nothing")
	absent := bucket(t, server.Line(""))
	if _, err := absent.Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
		t.Errorf("a missing manifest: %v", err)
	}
	if _, err := absent.Open(t.Context(), d, 0); !errors.Is(err, backends.ErrAbsent) {
		t.Errorf("a missing blob: %v", err)
	}
	if sizes, err := absent.Stat(t.Context(), []digest.Digest{d}); err != nil || len(sizes) != 0 {
		t.Errorf("sizes %v, error %v", sizes, err)
	}
	down := strings.Replace(server.Line(",retry_max_attempts=1"), server.Endpoint, "http://127.0.0.1:1", 1)
	for line, want := range map[string]string{
		server.Place() + ",access_key_id=nobody,secret_access_key=canary":         "access key",
		server.Place() + ",access_key_id=" + server.Key + ",secret_access_key=no": "SignatureDoesNotMatch",
		strings.Replace(server.Line(""), "bucket=cache", "bucket=other", 1):       "NoSuchBucket",
		down: "connection refused",
	} {
		store := bucket(t, line)
		_, manifest := store.Manifest(t.Context(), "b-main")
		_, open := store.Open(t.Context(), d, 0)
		put := store.Put(t.Context(), ocispecs.Descriptor{Digest: d, Size: 7}, strings.NewReader("nothing"))
		for what, err := range map[string]error{"manifest": manifest, "open": open, "put": put} {
			if err == nil || errors.Is(err, backends.ErrAbsent) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v, want %s", what, err, want)
			}
		}
	}
}

// Contents that are not what they should be leave nothing behind, in one part or in many.
func TestS3PutChecks(t *testing.T) {
	t.Parallel()
	server := backendtest.StartS3(t)
	store := bucket(t, server.Line(",upload_parallelism=2"))
	for _, size := range []int{0, 1, 1 << 20, 5 << 20, 5<<20 + 1, 17 << 20} {
		content := make([]byte, size)
		rand.Read(content)
		desc := ocispecs.Descriptor{Digest: digest.FromBytes(content), Size: int64(size)}
		other := desc
		other.Digest = digest.FromString("other")
		short := desc
		short.Size++
		broken := io.MultiReader(bytes.NewReader(content), iotest.ErrReader(errors.New("the sender left")))
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
			t.Fatalf("%d bytes: %v is left", size, left)
		}
		if err := store.Put(t.Context(), desc, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if read(t, store, desc.Digest, 0) != string(content) {
			t.Errorf("%d bytes came back as others", size)
		}
		sizes, err := store.Stat(t.Context(), []digest.Digest{desc.Digest, other.Digest})
		if err != nil || len(sizes) != 1 || sizes[desc.Digest] != desc.Size {
			t.Errorf("sizes %v, error %v", sizes, err)
		}
		server.Remove(t, "blobs/"+desc.Digest.String())
	}
	uploads, err := server.Client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &server.Bucket})
	if err != nil || len(uploads.Uploads) > 0 {
		t.Errorf("uploads left open: %v, error %v", uploads.Uploads, err)
	}
}

func TestS3PutCancelled(t *testing.T) {
	t.Parallel()
	server := backendtest.StartS3(t)
	store := bucket(t, server.Line(""))
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
	uploads, err := server.Client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &server.Bucket})
	if err != nil || len(uploads.Uploads) > 0 {
		t.Errorf("uploads left open: %v, error %v", uploads.Uploads, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// An old blob is made young by whoever writes, and by nobody else.
func TestS3Touch(t *testing.T) {
	t.Parallel()
	server := backendtest.StartS3(t)
	layer := ocispecs.Descriptor{Digest: digest.FromString("layer"), Size: 5}
	key := "a b+c/blobs/" + layer.Digest.String()
	touched := func(line string, write bool) bool {
		t.Helper()
		gated := backend(t, backends.Options{}, line).(backends.Gated)
		var scopes backends.Scopes = gated.Destination()
		if !write {
			scopes = gated.Scopes()
		}
		sizes, err := scopes.Stat(t.Context(), []digest.Digest{layer.Digest})
		if err != nil || sizes[layer.Digest] != 5 {
			t.Fatalf("sizes %v, error %v", sizes, err)
		}
		head, err := server.Client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &server.Bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		return head.Metadata["updated-at"] != ""
	}
	line := server.Line(",prefix=a b+c")
	if err := bucket(t, line).Put(t.Context(), layer, strings.NewReader("layer")); err != nil {
		t.Fatal(err)
	}
	if touched(line, true) {
		t.Error("a young blob was touched")
	}
	if touched(line+",touch_refresh=0s", false) {
		t.Error("a reader touched a blob")
	}
	if !touched(line+",touch_refresh=0s", true) {
		t.Error("an old blob was not touched")
	}
	if got := read(t, bucket(t, line), layer.Digest, 0); got != "layer" {
		t.Errorf("a touched blob is %q", got)
	}
}

// Prefixes and names that begin alike, or try to lead elsewhere, share nothing.
func TestS3Isolation(t *testing.T) {
	t.Parallel()
	server := backendtest.StartS3(t)
	c := newCache(t, imageManifest, "one")
	places := []string{"", ",prefix=a", ",prefix=a/b", ",prefix=ab", ",prefix=a,name=b", ",name=a", ",prefix=a,manifests_prefix=b", ",prefix=blobs", ",prefix=manifests"}
	for i, place := range places {
		store := bucket(t, server.Line(place))
		if _, err := store.Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
			t.Errorf("%q sees another place's cache: %v", place, err)
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
		m, err := bucket(t, server.Line(place)).Manifest(t.Context(), "b-main")
		if err != nil || m.Record.Commit != fmt.Sprint(i) {
			t.Errorf("%q: record %+v, error %v", place, m.Record, err)
		}
	}
}

// A manifest that is damaged, and one that names a blob that is gone, are no caches.
func TestS3Damaged(t *testing.T) {
	t.Parallel()
	server := backendtest.StartS3(t)
	keeper := backend(t, backends.Options{}, server.Line("")).(backends.Keeper)
	state := func() backends.Source {
		return backends.Read(t.Context(), []backends.Keeper{keeper}, plan("b-main"), time.Minute)[0]
	}
	store, c := bucket(t, server.Line("")), newCache(t, imageManifest, "one", "two")
	c.put(t, store)
	if err := store.PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Fatal(err)
	}
	server.Remove(t, "blobs/"+c.Layers[1].Digest.String())
	if s := state(); s.State != backends.Failed || !strings.Contains(s.Err.Error(), "1 of 2 blobs are gone") {
		t.Errorf("state %s, error %v", s.State, s.Err)
	}
	key := "manifests/b-main"
	if _, err := server.Client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &server.Bucket, Key: &key, Body: strings.NewReader(`{"layers":[`)}); err != nil {
		t.Fatal(err)
	}
	if s := state(); s.State != backends.Failed || !strings.Contains(s.Err.Error(), "parse cache config") {
		t.Errorf("state %s, error %v", s.State, s.Err)
	}
}
