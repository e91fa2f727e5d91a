package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// shared is a gateway over stores that one export, d0, is written to.
func shared(t testing.TB, stores ...backends.Store) (*gateway.Gateway, *gateway.Fanout) {
	t.Helper()
	g := testkit.Gateway(t)
	return g, g.Accept(stores, nil, time.Minute)
}

var one = digest.FromString("one")

// arrives reports whether a blob is in a store after all uploads have ended: a commit waits for
// these, also without a manifest.
func arrives(t testing.TB, f *gateway.Fanout, s *testkit.Store, content string) bool {
	t.Helper()
	f.Commit(t.Context(), asSent(backends.Record{}))
	return s.Has(content)
}

// BuildKit sends four blobs at once. A slow store does not delay the small ones.
func TestPushSmallBlobs(t *testing.T) {
	t.Parallel()
	s := testkit.NewStore()
	s.HoldPut = make(chan struct{})
	g, fanout := shared(t, s)
	for i := range 10 {
		blob := fmt.Sprint("blob ", i)
		if a := upload(t, g, "d0", digest.FromString(blob), strings.NewReader(blob)); a.status != 201 || s.Has(blob) {
			t.Errorf("%q: %+v", blob, a)
		}
	}
	close(s.HoldPut)
	for i := range 10 {
		if blob := fmt.Sprint("blob ", i); !arrives(t, fanout, s, blob) {
			t.Errorf("%q did not arrive", blob)
		}
	}
}

// The stores are asked once for the expected blobs, and never for a config.
func TestPushAsks(t *testing.T) {
	t.Parallel()
	s, g := testkit.NewStore(), testkit.Gateway(t)
	layers := offered(t, s).Manifest.Layers
	g.Accept([]backends.Store{s}, layers, time.Minute)
	for _, l := range layers {
		if a := ask(t, g, "HEAD", blobURL("d0", l.Digest), nil); a.status != 200 || a.header.Get("Content-Length") != fmt.Sprint(l.Size) {
			t.Errorf("%s: %+v", l.Digest, a)
		}
	}
	config := ask(t, g, "HEAD", blobURL("d0", one), nil, "Accept: "+cacheconfig.CacheConfigMediaTypeV0+", */*")
	if asked := s.Asked(); config.status != 404 || len(asked) != 1 || len(asked[0]) != len(layers) {
		t.Errorf("config %+v, asked %v", config, asked)
	}
	a := ask(t, g, "HEAD", blobURL("d0", one), nil)
	if asked := s.Asked(); a.status != 404 || len(asked) != 1 {
		t.Errorf("another blob: %+v, asked %v", a, asked)
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	near, far := testkit.NewStore(), testkit.NewStore()
	g, fanout := shared(t, near, far)
	has := func(method, path string) int { return ask(t, g, method, path, nil).status }
	mount := "/v2/d0/blobs/uploads/?from=other&mount=" + one.String()
	if status := has("HEAD", blobURL("d0", one)); status != 404 {
		t.Errorf("in no store: %d", status)
	}
	near.Add("one")
	if status := has("HEAD", blobURL("d0", one)); status != 404 {
		t.Errorf("in one store: %d", status)
	}
	if status := has("POST", mount); status != 202 {
		t.Errorf("mounted from one store: %d", status)
	}
	if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != 201 || a.header.Get("Docker-Content-Digest") != one.String() || !arrives(t, fanout, far, "one") {
		t.Errorf("upload: %+v", a)
	}
	if a := ask(t, g, "HEAD", blobURL("d0", one), nil); a.status != 200 || a.header.Get("Content-Length") != "3" || a.header.Get("Docker-Content-Digest") != one.String() {
		t.Errorf("in both stores: %+v", a)
	}
	if a := ask(t, g, "POST", mount, nil); a.status != 201 || a.header.Get("Location") != blobURL("d0", one) {
		t.Errorf("mounted: %+v", a)
	}
	if status := has("GET", blobURL("d0", one)); status != 404 {
		t.Errorf("read back: %d", status)
	}
	empty := digest.FromString("")
	if a := upload(t, g, "d0", empty, http.NoBody); a.status != 201 {
		t.Errorf("an empty blob: %+v", a)
	}
	arrived := arrives(t, fanout, far, "")
	if sizes, err := far.Stat(t.Context(), []digest.Digest{empty}); !arrived || err != nil || len(sizes) != 1 {
		t.Errorf("an empty blob: %v, %v", sizes, err)
	}
}

// silent is a store that does not report the sizes of its blobs.
type silent struct{ *testkit.Store }

func (s silent) Stat(ctx context.Context, digests []digest.Digest) (map[digest.Digest]int64, error) {
	sizes, err := s.Store.Stat(ctx, digests)
	for d := range sizes {
		sizes[d] = backends.UnknownSize
	}
	return sizes, err
}

// A blob of unknown size counts as present.
func TestPushUnknownSize(t *testing.T) {
	t.Parallel()
	quiet, plain := testkit.NewStore(), testkit.NewStore()
	g, expected := testkit.Gateway(t), []ocispecs.Descriptor{{Digest: one, Size: 3}}
	quiet.Add("one")
	g.Accept([]backends.Store{plain, silent{quiet}}, expected, time.Minute)
	if a := ask(t, g, "HEAD", blobURL("d0", one), nil); a.status != 404 {
		t.Errorf("in one store of two: %+v", a)
	}
	plain.Add("one")
	g.Accept([]backends.Store{plain, silent{quiet}}, expected, time.Minute)
	if a := ask(t, g, "HEAD", blobURL("d1", one), nil); a.status != 200 || a.header.Get("Content-Length") != "3" {
		t.Errorf("in both stores: %+v", a)
	}
	g.Accept([]backends.Store{silent{quiet}}, nil, time.Minute)
	if a := ask(t, g, "HEAD", blobURL("d2", one), nil); a.status != 200 || a.header.Get("Content-Length") != "" || a.header.Get("Docker-Content-Digest") != one.String() {
		t.Errorf("in the store that reports no size: %+v", a)
	}
}

// A copy of another size was cut short: it counts as absent and is sent again, whether the
// blob is expected or not. A copy of the right size is left alone.
func TestPushWrongSize(t *testing.T) {
	t.Parallel()
	for name, expected := range map[string][]ocispecs.Descriptor{"expected": {{Digest: one, Size: 3}}, "not expected": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			short, right := testkit.NewStore(), testkit.NewStore()
			short.Set(one, []byte("o"))
			right.Add("one")
			right.PutFault = errors.New("sent in vain")
			g := testkit.Gateway(t)
			fanout := g.Accept([]backends.Store{short, right}, expected, time.Minute)
			mount := "/v2/d0/blobs/uploads/?from=other&mount=" + one.String()
			if head, mounted := ask(t, g, "HEAD", blobURL("d0", one), nil), ask(t, g, "POST", mount, nil); head.status != 404 || mounted.status != 202 {
				t.Errorf("it counts as there: %+v, %+v", head, mounted)
			}
			if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != 201 || !arrives(t, fanout, short, "one") {
				t.Errorf("it is not sent again: %+v", a)
			}
			for i, err := range fanout.Commit(t.Context(), asSent(backends.Record{})) {
				if errors.Is(err, right.PutFault) {
					t.Errorf("store %d: %v", i, err)
				}
			}
		})
	}
}

func TestPushRefuses(t *testing.T) {
	t.Parallel()
	near, far := testkit.NewStore(), testkit.NewStore()
	g, fanout := shared(t, near, far)
	put := "/v2/d0/blobs/uploads/1"
	for name, a := range map[string]answer{
		"other content": upload(t, g, "d0", one, strings.NewReader("two")),
		"nothing":       upload(t, g, "d0", one, http.NoBody),
		"too much":      upload(t, g, "d0", one, strings.NewReader("one more")),
		"no digest":     ask(t, g, "PUT", put, strings.NewReader("one")),
		"bad digest":    ask(t, g, "PUT", put+"?digest=sha256:../../x", strings.NewReader("one")),
		"no length":     ask(t, g, "PUT", put+"?digest="+one.String(), io.MultiReader(strings.NewReader("one"))),
		"no manifest":   ask(t, g, "PUT", "/v2/d0/manifests/b-main", strings.NewReader("hello")),
		"bad manifest":  ask(t, g, "PUT", "/v2/d0/manifests/b-main", strings.NewReader(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{}]}`)),
		"huge manifest": ask(t, g, "PUT", "/v2/d0/manifests/b-main", strings.NewReader(strings.Repeat(" ", 17<<20))),
	} {
		if a.err == nil && a.status < 400 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for i, err := range fanout.Commit(t.Context(), asSent(backends.Record{})) {
		if err == nil {
			t.Errorf("store %d: it was committed without a manifest", i)
		}
	}
	for _, s := range []*testkit.Store{near, far} {
		if blobs, scopes := s.Len(); blobs+scopes != 0 {
			t.Errorf("stored: %d blobs, %d scopes", blobs, scopes)
		}
	}
	// None of these requests made a store fail.
	if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != 201 || !arrives(t, fanout, near, "one") || !far.Has("one") {
		t.Errorf("the right content afterwards: %+v", a)
	}
}

// A client that disconnects in the middle of a blob makes no store fail.
func TestPushBroken(t *testing.T) {
	t.Parallel()
	s := testkit.NewStore()
	g, fanout := shared(t, s)
	r := request(t, g, "PUT", "/v2/d0/blobs/uploads/1?digest="+one.String(), io.MultiReader(strings.NewReader("on"), readerFunc(func([]byte) (int, error) {
		return 0, errors.New("disk error")
	})))
	r.ContentLength = 3
	if a := send(t, r); a.err == nil && a.status < 400 {
		t.Errorf("%+v", a)
	}
	if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != 201 || !arrives(t, fanout, s, "one") {
		t.Errorf("the second attempt: %+v", a)
	}
}

func TestPushToFailingStores(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk full")
	for name, breaks := range map[string]func(*testkit.Store){
		"refuses blobs":   func(s *testkit.Store) { s.PutFault = broken },
		"does not answer": func(s *testkit.Store) { s.StatFault = broken },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good, bad := testkit.NewStore(), testkit.NewStore()
			breaks(bad)
			g, fanout := shared(t, bad, good)
			m, config, _ := app.Cache(t, "me")
			for _, blob := range []string{"app by me", "base by me", string(config)} {
				if a := upload(t, g, "d0", digest.FromString(blob), strings.NewReader(blob)); a.status != 201 || !arrives(t, fanout, good, blob) {
					t.Errorf("%q: %+v", blob, a)
				}
				if a := ask(t, g, "HEAD", blobURL("d0", digest.FromString(blob)), nil); a.status != 200 {
					t.Errorf("%q is not there: %+v", blob, a)
				}
			}
			if a := ask(t, g, "PUT", "/v2/d0/manifests/b-main", strings.NewReader(string(m.Raw)), "Content-Type: "+m.MediaType); a.status != 201 || a.header.Get("Docker-Content-Digest") != m.Descriptor().Digest.String() {
				t.Errorf("manifest: %+v", a)
			}
			outcome := fanout.Commit(t.Context(), asSent(backends.Record{Result: "sha256:00"}))
			if len(outcome) != 2 || !errors.Is(outcome[0], broken) || outcome[1] != nil {
				t.Errorf("outcome %v", outcome)
			}
			if _, err := good.Manifest(t.Context(), "b-main"); err != nil {
				t.Errorf("the good store: %v", err)
			}
			if blobs, _ := good.Len(); blobs != 3 {
				t.Errorf("the good store: %d blobs", blobs)
			}
			if blobs, scopes := bad.Len(); blobs+scopes != 0 {
				t.Errorf("the bad store: %d blobs, %d scopes", blobs, scopes)
			}
		})
	}
}

func TestPushToNoStore(t *testing.T) {
	t.Parallel()
	bad, worse := testkit.NewStore(), testkit.NewStore()
	bad.PutFault, worse.StatFault = errors.New("disk full"), errors.New("no answer")
	g, fanout := shared(t, bad, worse)
	large := strings.Repeat("large", 1<<20)
	a := upload(t, g, "d0", digest.FromString(large), strings.NewReader(large))
	if a.status != http.StatusFailedDependency || !strings.Contains(a.body, "disk full") || !strings.Contains(a.body, "no answer") {
		t.Errorf("%+v", a)
	}
	outcome := fanout.Commit(t.Context(), asSent(backends.Record{}))
	if !slices.Equal(outcome, []error{bad.PutFault, worse.StatFault}) {
		t.Errorf("outcome %v", outcome)
	}
}
