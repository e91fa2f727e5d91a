package backends_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

var update = flag.Bool("update", false, "write the golden files")

// backend is the backend of one valid line.
func backend(t testing.TB, env cachespec.Environment, line string) backends.Backend {
	t.Helper()
	return testkit.Backend(t, env, line)
}

// verified reads the scopes of a plan, and waits for the verification of their blobs.
func verified(ctx context.Context, caches []backends.Backend, p scope.Plan, timeout time.Duration) []backends.Reading {
	readings := backends.Read(ctx, caches, p, timeout)
	for i := range readings {
		readings[i].Err = readings[i].Verify()
	}
	return readings
}

// The outcomes of a reading.
const loaded, absent, failed = "loaded", "absent", "failed"

func outcome(r backends.Reading) string {
	switch {
	case r.Err == nil:
		return loaded
	case errors.Is(r.Err, backends.ErrAbsent):
		return absent
	}
	return failed
}

// local is the store that a cache in dir is written to; more are additional attributes.
func local(t testing.TB, dir, more string) backends.Store {
	t.Helper()
	return backend(t, cachespec.Environment{}, "type=local,dest="+dir+more).(backends.GatewayWritten).Destination()
}

// localSource is the store that the same cache is read from.
func localSource(t testing.TB, dir string) backends.Scopes {
	t.Helper()
	return backend(t, cachespec.Environment{}, "type=local,dest="+dir).(backends.GatewayWritten).Scopes()
}

// The formats of a cache manifest by BuildKit's exporter.
const (
	imageManifest = ocispecs.MediaTypeImageManifest
	imageIndex    = ocispecs.MediaTypeImageIndex
	dockerList    = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// cache is a cache with all its blobs.
type cache struct {
	backends.Manifest
	blobs map[digest.Digest][]byte
}

// step is the digest of the step that makes the content.
func step(content string) digest.Digest { return digest.FromString("step of " + content) }

// key is the digest of that step's record (v0.34.2, solver/cachemanager.go, rootKey).
func key(content string) digest.Digest { return digest.FromString(step(content).String() + "@0") }

// newCache has one record and one layer for each content.
func newCache(t testing.TB, form string, contents ...string) cache {
	t.Helper()
	c := cache{blobs: map[digest.Digest][]byte{}}
	var config cacheconfig.CacheConfig
	var layers []ocispecs.Descriptor
	for i, content := range contents {
		layer := c.add(ocispecs.MediaTypeImageLayerGzip, []byte(content))
		layer.Annotations = map[string]string{"containerd.io/uncompressed": digest.FromString("tar of " + content).String()}
		layers = append(layers, layer)
		config.Layers = append(config.Layers, cacheconfig.CacheLayer{Blob: layer.Digest, ParentIndex: -1})
		config.Records = append(config.Records, cacheconfig.CacheRecord{
			Digest:  key(content),
			Results: []cacheconfig.CacheResult{{LayerIndex: i}},
		})
	}
	raw := manifestText(t, form, c.add(cacheconfig.CacheConfigMediaTypeV0, encode(t, config)), layers)
	var err error
	if c.Manifest, err = backends.ParseManifest(raw, form); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c cache) add(mediaType string, content []byte) ocispecs.Descriptor {
	d := digest.FromBytes(content)
	c.blobs[d] = content
	return ocispecs.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
}

// manifestText is a cache manifest in one of the formats.
func manifestText(t testing.TB, form string, config ocispecs.Descriptor, layers []ocispecs.Descriptor) []byte {
	t.Helper()
	version := specs.Versioned{SchemaVersion: 2}
	if form == imageManifest {
		return encode(t, ocispecs.Manifest{Versioned: version, MediaType: form, Config: config, Layers: layers})
	}
	return encode(t, ocispecs.Index{Versioned: version, MediaType: form, Manifests: append(slices.Clone(layers), config)})
}

// put writes only the blobs.
func (c cache) put(t testing.TB, store backends.Store) {
	t.Helper()
	for _, desc := range c.Blobs() {
		if err := store.Put(t.Context(), desc, bytes.NewReader(c.blobs[desc.Digest])); err != nil {
			t.Fatal(err)
		}
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// read is the content of a blob from offset to its end.
func read(t testing.TB, from backends.Scopes, d digest.Digest, offset int64) string {
	t.Helper()
	r, err := from.Open(t.Context(), d, offset)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// golden compares got with a file in testdata.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test ./backends -update writes it):\n%s", path, got)
	}
}

// attrsText is an entry's attributes in a fixed order.
func attrsText(attrs map[string]string) string {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		b.WriteString(" " + k + "=" + attrs[k])
	}
	return b.String()
}
