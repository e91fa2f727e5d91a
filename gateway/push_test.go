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

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/gateway"
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

func TestPush(t *testing.T) {
	t.Parallel()
	near, far := newStore(), newStore()
	g, _ := shared(t, near, far)
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
	if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != 201 || a.header.Get("Docker-Content-Digest") != one.String() || !far.has("one") {
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
	if sizes, err := far.Stat(t.Context(), []digest.Digest{empty}); err != nil || len(sizes) != 1 {
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
	if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != 201 || !near.has("one") || !far.has("one") {
		t.Errorf("the right content afterwards: %+v", a)
	}
}

// A client that leaves in the middle of a blob takes no store with it.
func TestPushBroken(t *testing.T) {
	t.Parallel()
	s := newStore()
	g, _ := shared(t, s)
	r := request(t, g, "PUT", "/v2/d0/blobs/uploads/1?digest="+one.String(), io.MultiReader(strings.NewReader("on"), readerFunc(func([]byte) (int, error) {
		return 0, errors.New("disk error")
	})))
	r.ContentLength = 3
	if a := send(t, r); a.err == nil && a.status < 400 {
		t.Errorf("%+v", a)
	}
	if a := upload(t, g, "d0", one, strings.NewReader("one")); a.status != 201 || !s.has("one") {
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
				if a := upload(t, g, "d0", digest.FromString(blob), strings.NewReader(blob)); a.status != 201 {
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
	a := upload(t, g, "d0", one, strings.NewReader("one"))
	if a.status != http.StatusFailedDependency || !strings.Contains(a.body, "disk full") || !strings.Contains(a.body, "no answer") {
		t.Errorf("%+v", a)
	}
	outcome := destination.Commit(t.Context(), backends.Exported{})
	if !slices.Equal(outcome, []error{bad.putFault, worse.statFault}) {
		t.Errorf("outcome %v", outcome)
	}
}
