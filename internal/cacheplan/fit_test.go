package cacheplan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// largeCache is a cache of chains of ten steps, in which the step n of each was made n seconds after
// the chain's number. All its layers have the same few blobs.
func largeCache(t testing.TB, chains int) (m backends.Manifest, config []byte, blobs map[digest.Digest][]byte) {
	t.Helper()
	blobs = map[digest.Digest][]byte{}
	var doc cacheconfig.CacheConfig
	var layers []ocispecs.Descriptor
	for i := range 10 {
		content := []byte(fmt.Sprint("layer ", i))
		layer := ocispecs.Descriptor{
			MediaType: ocispecs.MediaTypeImageLayerGzip, Digest: digest.FromBytes(content), Size: int64(len(content)),
			Annotations: map[string]string{"containerd.io/uncompressed": digest.FromString(fmt.Sprint("tar ", i)).String()},
		}
		layers, blobs[layer.Digest] = append(layers, layer), content
		doc.Layers = append(doc.Layers, cacheconfig.CacheLayer{Blob: layer.Digest, ParentIndex: i - 1})
	}
	for chain := range chains {
		for n := range 10 {
			record := cacheconfig.CacheRecord{
				Digest:  testkit.RecordDigest(fmt.Sprint(chain, "-", n)),
				Results: []cacheconfig.CacheResult{{LayerIndex: n, CreatedAt: time.Unix(int64(1000*chain+n), 0).UTC()}},
			}
			if n > 0 {
				record.Inputs = [][]cacheconfig.CacheInput{{{LinkIndex: len(doc.Records) - 1}}}
			}
			doc.Records = append(doc.Records, record)
		}
	}
	config, err := json.Marshal(doc)
	if err == nil {
		m, err = backends.NewManifest(config, layers, backends.Record{})
	}
	if err != nil {
		t.Fatal(err)
	}
	blobs[m.Config.Digest] = config
	return m, config, blobs
}

// indexOf is the same cache as an index, the other form in which BuildKit writes one.
func indexOf(t testing.TB, m backends.Manifest) backends.Manifest {
	t.Helper()
	raw, err := json.Marshal(ocispecs.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex, Manifests: append(slices.Clone(m.Layers), m.Config)})
	if err == nil {
		m, err = backends.ParseManifest(raw, ocispecs.MediaTypeImageIndex)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// commitLarge commits a cache of 700 chains, which BuildKit would not import, and checks that the
// store got a part of it, with the record: the chains that were made last.
func commitLarge(t *testing.T, store backends.Scopes, m backends.Manifest, d cacheplan.Destination) {
	t.Helper()
	made := cacheplan.Exported{Content: "sha256:00", Manifest: m.Descriptor().Digest}
	err := outcomes(d.Commit(t.Context(), made))[0]
	var reduced *cacheplan.Reduced
	if !errors.As(err, &reduced) || reduced.Of != 7000 || !strings.Contains(err.Error(), fmt.Sprintf("the cache config has %d bytes, and BuildKit imports at most 1048576", m.Config.Size)) {
		t.Fatalf("outcome %v", err)
	}
	r := backends.Read(t.Context(), []backends.Backend{only{scopes: store}}, scope.Plan{Read: []scope.Source{{Name: "b-main"}}}, time.Minute)[0]
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	c, err := cachegraph.Parse(r.Config, r.Manifest.Layers)
	if err != nil || c.Results() != 7000-reduced.Dropped || len(r.Config) < backends.MaxConfig*9/10 || r.Manifest.Record.Branch != "main" {
		t.Fatalf("%d results in %d bytes, record %+v, %v", c.Results(), len(r.Config), r.Manifest.Record, err)
	}
	for _, record := range c.Config.Records {
		if record.Digest == testkit.RecordDigest("0-0") {
			t.Error("the oldest step was kept")
		}
	}
}

// only is a cache of which only the scopes are used.
type only struct {
	backends.Backend
	scopes backends.Scopes
}

func (o only) Scopes() backends.Scopes { return o.scopes }

// A cache config of more than 1 MiB, which BuildKit writes and never imports, is reduced when it is
// committed, through the gateway and where BuildKit has written it.
func TestLargeConfig(t *testing.T) {
	t.Parallel()
	image, _, blobs := largeCache(t, 700)
	if image.Config.Size <= backends.MaxConfig {
		t.Fatalf("%d bytes", image.Config.Size)
	}
	for form, m := range map[string]backends.Manifest{"image": image, "index": indexOf(t, image)} {
		t.Run("gateway/"+form, func(t *testing.T) {
			t.Parallel()
			c, g := newMemoryCache("shelf"), testkit.Gateway(t)
			d := destinations(nil, g, c)[0]
			for _, desc := range m.Blobs() {
				pushBlob(t, g, desc, blobs[desc.Digest])
			}
			put(t, g, "/v2/d0/manifests/b-main", string(m.Raw))
			commitLarge(t, c.Store, m, d)
		})
		for kind, c := range map[string]backends.Backend{
			"registry": real(t, nil, "type=registry,ref="+testkit.StartRegistry(t).Host+"/app"),
			"local":    real(t, nil, "type=local,dest="+filepath.Join(t.TempDir(), "cache")),
		} {
			t.Run(kind+"/"+form, func(t *testing.T) {
				t.Parallel()
				store := c.Scopes().(backends.Store)
				for d, content := range blobs {
					desc := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayerGzip, Digest: d, Size: int64(len(content))}
					if err := store.Put(t.Context(), desc, bytes.NewReader(content)); err != nil {
						t.Fatal(err)
					}
				}
				if err := store.PutManifest(t.Context(), "b-main", m); err != nil {
					t.Fatal(err)
				}
				commitLarge(t, store, m, destinations(nil, nil, c)[0])
			})
		}
	}
}

// pushBlob sends a blob as BuildKit does.
func pushBlob(t testing.TB, g *gateway.Gateway, desc ocispecs.Descriptor, content []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+g.Host+"/v2/d0/blobs/"+desc.Digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", desc.MediaType+", */*")
	r.SetBasicAuth(g.Credentials())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	put(t, g, "/v2/d0/blobs/uploads/1?digest="+desc.Digest.String(), string(content))
}

// Where nothing would remain of a cache the former one is kept, or comes back.
func TestUnfitConfig(t *testing.T) {
	t.Parallel()
	// One step whose inputs are named 20,000 times.
	var doc cacheconfig.CacheConfig
	m, _, blobs := app.Cache(t, "b-main")
	doc.Layers = []cacheconfig.CacheLayer{{Blob: m.Layers[0].Digest, ParentIndex: -1}}
	doc.Records = []cacheconfig.CacheRecord{{Digest: testkit.RecordDigest("base")}, {
		Digest: testkit.RecordDigest("app"), Results: []cacheconfig.CacheResult{{CreatedAt: time.Unix(1, 0).UTC()}},
		Inputs: [][]cacheconfig.CacheInput{slices.Repeat([]cacheconfig.CacheInput{{Selector: strings.Repeat("x", 40)}}, 20_000)},
	}}
	config, err := json.Marshal(doc)
	if err != nil || len(config) <= backends.MaxConfig {
		t.Fatalf("%d bytes, %v", len(config), err)
	}
	large, err := backends.NewManifest(config, m.Layers[:1], backends.Record{})
	if err != nil {
		t.Fatal(err)
	}
	blobs[large.Config.Digest] = config
	made := cacheplan.Exported{Content: "sha256:00", Manifest: large.Descriptor().Digest}
	for name, g := range map[string]*gateway.Gateway{"gateway": testkit.Gateway(t), "native": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newMemoryCache("shelf")
			for d, content := range maps.All(blobs) {
				c.Set(d, content)
			}
			own := reading(t, app, c, "b-main")
			if err := c.PutManifest(t.Context(), "b-main", own.Manifest); err != nil {
				t.Fatal(err)
			}
			d := destinations([]backends.Reading{own}, g, c)[0]
			if g == nil { // as if BuildKit had written it
				if err := c.PutManifest(t.Context(), "b-main", large); err != nil {
					t.Fatal(err)
				}
			} else {
				for _, desc := range large.Blobs() {
					pushBlob(t, g, desc, blobs[desc.Digest])
				}
				put(t, g, "/v2/d0/manifests/b-main", string(large.Raw))
			}
			if err := outcomes(d.Commit(t.Context(), made))[0]; err == nil || !strings.Contains(err.Error(), "the former cache is kept: the cache config has") {
				t.Errorf("outcome %v", err)
			}
			if got, err := c.Manifest(t.Context(), "b-main"); err != nil || got.Config.Digest != own.Manifest.Config.Digest {
				t.Errorf("the scope is now %s, %v", got.Config.Digest, err)
			}
		})
	}
}

// A cache whose results expand beyond the bounds would be refused by the next build.
func TestTowerIsReduced(t *testing.T) {
	t.Parallel()
	c, g := newMemoryCache("shelf"), testkit.Gateway(t)
	r := tower(t, c, "b-main")
	d := destinations(nil, g, c)[0]
	pushBlob(t, g, r.Manifest.Config, r.Config)
	put(t, g, "/v2/d0/manifests/b-main", string(r.Manifest.Raw))
	err := outcomes(d.Commit(t.Context(), cacheplan.Exported{}))[0]
	var reduced *cacheplan.Reduced
	if !errors.As(err, &reduced) || reduced.Of != 3000 || !errors.Is(err, cachegraph.ErrTooLarge) {
		t.Errorf("outcome %v", err)
	}
}
