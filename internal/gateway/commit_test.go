package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// pushApp sends the app's cache as BuildKit does.
func pushApp(t *testing.T, g *gateway.Gateway) (m backends.Manifest, config []byte) {
	t.Helper()
	m, config, blobs := app.Cache(t, "b-main")
	for _, desc := range m.Blobs() {
		accept := "Accept: " + desc.MediaType + ", */*"
		if a := ask(t, g, "HEAD", blobURL("d0", desc.Digest), nil, accept); a.status == 200 {
			continue
		}
		if a := upload(t, g, "d0", desc.Digest, strings.NewReader(string(blobs[desc.Digest]))); a.status != 201 {
			t.Fatalf("%s: %+v", desc.Digest, a)
		}
	}
	if a := ask(t, g, "PUT", "/v2/d0/manifests/b-main", strings.NewReader(string(m.Raw)), "Content-Type: "+m.MediaType); a.status != 201 {
		t.Fatalf("manifest: %+v", a)
	}
	return m, config
}

// A cache config is written only by the commit, in the form that it is fitted to.
func TestCommitFits(t *testing.T) {
	t.Parallel()
	note, refused := errors.New("reduced"), errors.New("too large")
	other, otherConfig, _ := testkit.NewGraph("base").Cache(t, "b-main")
	for name, test := range map[string]struct {
		fit  func(gateway.Sent) (gateway.Sent, error)
		want error
		has  int // results in the store's manifest; 0: there is none
	}{
		"as it was sent": {func(sent gateway.Sent) (gateway.Sent, error) { return sent, nil }, nil, 2},
		"reduced": {func(gateway.Sent) (gateway.Sent, error) {
			return gateway.Sent{Manifest: other, Config: otherConfig}, note
		}, note, 1},
		"refused": {func(gateway.Sent) (gateway.Sent, error) {
			return gateway.Sent{}, refused
		}, refused, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.NewStore()
			g, fanout := shared(t, s)
			sentManifest, sentConfig := pushApp(t, g)
			if s.Has(string(sentConfig)) {
				t.Error("the config is in the store before the commit")
			}
			errs := fanout.Commit(t.Context(), fitted(backends.Record{}, func(sent gateway.Sent, damaged map[digest.Digest]error) (gateway.Sent, error) {
				if string(sent.Config) != string(sentConfig) || sent.Manifest.Config.Digest != sentManifest.Config.Digest || len(damaged) != 0 {
					t.Errorf("to be fitted: %+v, damaged %v", sent, damaged)
				}
				return test.fit(sent)
			}))
			if !errors.Is(errs[0], test.want) {
				t.Errorf("outcome %v", errs)
			}
			m, err := s.Manifest(t.Context(), "b-main")
			if len(m.Layers) != test.has || (err == nil) != (test.has > 0) {
				t.Errorf("%d layers, %v", len(m.Layers), err)
			}
			if sizes, err := s.Stat(t.Context(), []digest.Digest{m.Config.Digest}); err != nil || test.has > 0 && len(sizes) != 1 {
				t.Errorf("the config of the manifest: %v, %v", sizes, err)
			}
		})
	}
}

// A config that is larger than what is held in memory ends the export; the stores have not failed.
func TestHugeConfig(t *testing.T) {
	t.Parallel()
	s := testkit.NewStore()
	g, _ := shared(t, s)
	ask(t, g, "HEAD", blobURL("d0", one), nil, "Accept: "+cacheconfig.CacheConfigMediaTypeV0+", */*")
	if a := upload(t, g, "d0", one, strings.NewReader(strings.Repeat(" ", backends.MaxManifest+1))); a.err == nil && a.status != 413 {
		t.Errorf("%+v", a)
	}
	if a := upload(t, g, "d0", digest.FromString("two"), strings.NewReader("two")); a.status != 201 {
		t.Errorf("another blob: %+v", a)
	}
}

// stubborn is a store that keeps the copies that it has, as GitHub's cache does.
type stubborn struct{ *testkit.Store }

func (s stubborn) Put(ctx context.Context, desc ocispecs.Descriptor, r io.Reader) error {
	if sizes, err := s.Stat(ctx, []digest.Digest{desc.Digest}); err != nil || len(sizes) > 0 {
		return err
	}
	return s.Store.Put(ctx, desc, r)
}

// unreadable is a store that refuses to hand out blobs.
type unreadable struct{ *testkit.Store }

func (unreadable) Open(context.Context, digest.Digest, int64) (io.ReadCloser, error) {
	return nil, errors.New("401 Unauthorized")
}

// A store may keep a damaged copy of a blob that is sent again, or not hand it out. The commit is told
// which of the two, so that the cache does not name the blob.
func TestCommitDamagedCopy(t *testing.T) {
	t.Parallel()
	damagedBlob := digest.FromString("app by b-main")
	mends, keeps, refuses := testkit.NewStore(), stubborn{testkit.NewStore()}, unreadable{testkit.NewStore()}
	g := testkit.Gateway(t)
	cache := offered(t, mends)
	g.Offer(complete(cache))
	offered(t, keeps.Store)
	offered(t, refuses.Store)
	for _, s := range []*testkit.Store{mends, keeps.Store, refuses.Store} {
		s.Set(damagedBlob, []byte("app by b-xxxx"))
	}
	fanout := g.Accept([]backends.Store{mends, keeps, refuses}, cache.Manifest.Layers, 0)
	if a := ask(t, g, "GET", blobURL("s0", damagedBlob), nil); a.err == nil && a.status == 200 {
		t.Fatalf("it was delivered: %+v", a)
	}
	pushApp(t, g)
	errs := fanout.Commit(t.Context(), fitted(backends.Record{}, func(sent gateway.Sent, damaged map[digest.Digest]error) (gateway.Sent, error) {
		if err := damaged[damagedBlob]; err != nil {
			return sent, err
		}
		return sent, nil
	}))
	want := []string{
		"<nil>", "the store keeps a damaged copy of blob " + damagedBlob.String(),
		"blob " + damagedBlob.String() + " was sent again and cannot be read back: 401 Unauthorized",
	}
	for i, err := range errs {
		if fmt.Sprint(err) != want[i] {
			t.Errorf("store %d: %v, want %s", i, err, want[i])
		}
	}
	if !mends.Has("app by b-main") {
		t.Error("the blob was not sent again")
	}
}
