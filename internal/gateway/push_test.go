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

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// shared is a gateway over two stores that take one export, d0.
func shared(t testing.TB, stores ...*store) (*gateway.Gateway, backends.Destination) {
	t.Helper()
	g := listen(t)
	var caches []backends.Backend
	for i, s := range stores {
		caches = append(caches, &gated{store: s, name: fmt.Sprintf("shelf %d", i), options: map[string]string{"mode": "max"}})
	}
	destinations := gateway.Connect(caches, nil, writeMain, backends.Record{}, g).Destinations
	if len(destinations) != 1 {
		t.Fatal(destinations)
	}
	return g, destinations[0]
}

var one = digest.FromString("one")

// arrives tells whether a blob is in a store once all that was sent is on its way no
// more: a commit waits for that, also without a manifest.
func arrives(t testing.TB, d backends.Destination, s *store, content string) bool {
	t.Helper()
	d.Commit(t.Context(), backends.Exported{})
	return s.has(content)
}

// BuildKit sends four blobs at once; a far store holds up none of the small ones.
func TestPushSmallBlobs(t *testing.T) {
	t.Parallel()
	s := newStore()
	s.held = make(chan struct{})
	g, destination := shared(t, s)
	for i := range 10 {
		blob := fmt.Sprint("blob ", i)
		if a := upload(t, g, "d0", digest.FromString(blob), strings.NewReader(blob)); a.status != 201 || s.has(blob) {
			t.Errorf("%q: %+v", blob, a)
		}
	}
	close(s.held)
	for i := range 10 {
		if blob := fmt.Sprint("blob ", i); !arrives(t, destination, s, blob) {
			t.Errorf("%q did not arrive", blob)
		}
	}
}

// The blobs of what was read are asked for once, and a config never.
func TestPushAsks(t *testing.T) {
	t.Parallel()
	shelf := &gated{store: newStore(), name: "shelf", options: map[string]string{"mode": "max"}}
	source := app.loaded(t, shelf, "b-main")
	layers := source.Manifest.Layers
	g := listen(t)
	gateway.Connect([]backends.Backend{shelf}, []backends.Source{source}, writeMain, backends.Record{}, g)
	shelf.asked = nil
	for _, l := range layers {
		if a := ask(t, g, "HEAD", blobURL("d0", l.Digest), nil); a.status != 200 || a.header.Get("Content-Length") != fmt.Sprint(l.Size) {
			t.Errorf("%s: %+v", l.Digest, a)
		}
	}
	config := ask(t, g, "HEAD", blobURL("d0", one), nil, "Accept: "+cacheconfig.CacheConfigMediaTypeV0+", */*")
	if config.status != 404 || len(shelf.asked) != 1 || len(shelf.asked[0]) != len(layers) {
		t.Errorf("config %+v, asked %v", config, shelf.asked)
	}
	if a := ask(t, g, "HEAD", blobURL("d0", one), nil); a.status != 404 || len(shelf.asked) != 2 {
		t.Errorf("another blob: %+v, asked %v", a, shelf.asked)
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	near, far := newStore(), newStore()
	g, destination := shared(t, near, far)
	has := func(method, path string) int { return ask(t, g, method, path, nil).status }
	mount := "/v2/d0/blobs/uploads/?from=other&mount=" + one.String()
	if status := has("HEAD", blobURL("d0", one)); status != 404 {
		t.Errorf("in no store: %d", status)
	}
	near.add("", "one")
	if status := has("HEAD", blobURL("d0", one)); status != 404 {
		t.Errorf("in one store: %d", status)
	}
	if status := has("POST", mount); status != 202 {
		t.Errorf("mounted from one store: %d", status)
	}
	if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != 201 || a.header.Get("Docker-Content-Digest") != one.String() || !arrives(t, destination, far, "one") {
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
	if sizes, err := far.Stat(t.Context(), []digest.Digest{empty}); !arrives(t, destination, far, "") || err != nil || len(sizes) != 1 {
		t.Errorf("an empty blob: %v, %v", sizes, err)
	}
}

// silent is a store that does not tell sizes.
type silent struct{ *store }

func (s silent) Stat(ctx context.Context, digests []digest.Digest) (map[digest.Digest]int64, error) {
	sizes, err := s.store.Stat(ctx, digests)
	for d := range sizes {
		sizes[d] = backends.UnknownSize
	}
	return sizes, err
}

// A blob of unknown size is there all the same.
func TestPushUnknownSize(t *testing.T) {
	t.Parallel()
	quiet, plain := newStore(), newStore()
	g := listen(t)
	caches := []backends.Backend{&gated{store: plain, name: "plain"}, &quietly{gated{store: quiet, name: "quiet"}}}
	gateway.Connect(caches, nil, writeMain, backends.Record{}, g)
	quiet.add("", "one")
	if a := ask(t, g, "HEAD", blobURL("d0", one), nil); a.status != 404 {
		t.Errorf("in one store of two: %+v", a)
	}
	plain.add("", "one")
	if a := ask(t, g, "HEAD", blobURL("d0", one), nil); a.status != 200 || a.header.Get("Content-Length") != "3" {
		t.Errorf("in both stores: %+v", a)
	}
	gateway.Connect(caches[1:], nil, writeMain, backends.Record{}, g)
	if a := ask(t, g, "HEAD", blobURL("d1", one), nil); a.status != 200 || a.header.Get("Content-Length") != "" || a.header.Get("Docker-Content-Digest") != one.String() {
		t.Errorf("in the store that does not say: %+v", a)
	}
}

// quietly is a cache in a silent store.
type quietly struct{ gated }

func (q *quietly) Destination() backends.Store { return silent{q.store} }

func TestPushRefuses(t *testing.T) {
	t.Parallel()
	near, far := newStore(), newStore()
	g, destination := shared(t, near, far)
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
	if len(near.blobs) != 0 || len(far.blobs) != 0 {
		t.Errorf("stored: %v, %v", near.blobs, far.blobs)
	}
	for i, err := range destination.Commit(t.Context(), backends.Exported{}) {
		if err == nil || len(near.scopes) != 0 {
			t.Errorf("store %d has a scope without a manifest", i)
		}
	}
	// None of that was a store's fault.
	if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != 201 || !arrives(t, destination, near, "one") || !far.has("one") {
		t.Errorf("the right content afterwards: %+v", a)
	}
}

// A client that leaves in the middle of a blob takes no store with it.
func TestPushBroken(t *testing.T) {
	t.Parallel()
	s := newStore()
	g, destination := shared(t, s)
	r := request(t, g, "PUT", "/v2/d0/blobs/uploads/1?digest="+one.String(), io.MultiReader(strings.NewReader("on"), readerFunc(func([]byte) (int, error) {
		return 0, errors.New("disk error")
	})))
	r.ContentLength = 3
	if a := send(t, r); a.err == nil && a.status < 400 {
		t.Errorf("%+v", a)
	}
	if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != 201 || !arrives(t, destination, s, "one") {
		t.Errorf("the second try: %+v", a)
	}
}

func TestPushToFailingStores(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk full")
	for name, breaks := range map[string]func(*store){
		"cannot take blobs": func(s *store) { s.putFault = broken },
		"does not answer":   func(s *store) { s.statFault = broken },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good, bad := newStore(), newStore()
			breaks(bad)
			g, destination := shared(t, bad, good)
			m, config := app.cache(t, newStore(), "me")
			for _, blob := range []string{"app by me", "base by me", string(config)} {
				if a := upload(t, g, "d0", digest.FromString(blob), strings.NewReader(blob)); a.status != 201 || !arrives(t, destination, good, blob) {
					t.Errorf("%q: %+v", blob, a)
				}
				if a := ask(t, g, "HEAD", blobURL("d0", digest.FromString(blob)), nil); a.status != 200 {
					t.Errorf("%q is not there: %+v", blob, a)
				}
			}
			if a := ask(t, g, "PUT", "/v2/d0/manifests/b-main", strings.NewReader(string(m.Raw)), "Content-Type: "+m.MediaType); a.status != 201 || a.header.Get("Docker-Content-Digest") != m.Descriptor().Digest.String() {
				t.Errorf("manifest: %+v", a)
			}
			outcome := destination.Commit(t.Context(), backends.Exported{Content: "sha256:00"})
			if len(outcome) != 2 || !errors.Is(outcome[0], broken) || outcome[1] != nil {
				t.Errorf("outcome %v", outcome)
			}
			if _, err := good.Manifest(t.Context(), "b-main"); err != nil || len(good.blobs) != 3 {
				t.Errorf("the good store: %v, %d blobs", err, len(good.blobs))
			}
			if len(bad.scopes)+len(bad.blobs) != 0 {
				t.Errorf("the bad store: %v", bad.scopes)
			}
		})
	}
}

func TestPushToNoStore(t *testing.T) {
	t.Parallel()
	bad, worse := newStore(), newStore()
	bad.putFault, worse.statFault = errors.New("disk full"), errors.New("no answer")
	g, destination := shared(t, bad, worse)
	large := strings.Repeat("large", 1<<20)
	a := upload(t, g, "d0", digest.FromString(large), strings.NewReader(large))
	if a.status != http.StatusFailedDependency || !strings.Contains(a.body, "disk full") || !strings.Contains(a.body, "no answer") {
		t.Errorf("%+v", a)
	}
	outcome := destination.Commit(t.Context(), backends.Exported{})
	if !slices.Equal(outcome, []error{bad.putFault, worse.statFault}) {
		t.Errorf("outcome %v", outcome)
	}
}
