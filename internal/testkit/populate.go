package testkit

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/labels"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/scope"
)

// Populate makes a cache of layers with these contents a scope's cache, as an export does: blobs that are there are not sent. It returns the
// error of the store, if any.
func Populate(t testing.TB, store backends.Store, n scope.Name, r backends.Record, contents ...string) error {
	t.Helper()
	m, blobs := Layered(t, r, contents...)
	var digests []digest.Digest
	for _, b := range m.Blobs() {
		digests = append(digests, b.Digest)
	}
	there, err := store.Stat(t.Context(), digests)
	if err != nil {
		return err
	}
	for _, b := range m.Blobs() {
		if _, known := there[b.Digest]; known {
			continue
		}
		if err := store.Put(t.Context(), b, bytes.NewReader(blobs[b.Digest])); err != nil {
			return err
		}
	}
	return store.PutManifest(t.Context(), n, m)
}

// Layered is a cache of layers with these contents, each the result of a step, and its blobs.
func Layered(t testing.TB, r backends.Record, contents ...string) (backends.Manifest, map[digest.Digest][]byte) {
	t.Helper()
	var doc cacheconfig.CacheConfig
	var layers []ocispecs.Descriptor
	blobs := map[digest.Digest][]byte{}
	for i, content := range contents {
		d := digest.FromString(content)
		blobs[d] = []byte(content)
		layers = append(layers, ocispecs.Descriptor{
			MediaType: ocispecs.MediaTypeImageLayerZstd, Digest: d, Size: int64(len(content)), Annotations: map[string]string{labels.LabelUncompressed: d.String()},
		})
		doc.Layers = append(doc.Layers, cacheconfig.CacheLayer{Blob: d, ParentIndex: i - 1})
		doc.Records = append(doc.Records, cacheconfig.CacheRecord{
			Digest: RecordDigest(content), Results: []cacheconfig.CacheResult{{LayerIndex: i, CreatedAt: time.Unix(1_700_000_000, 0).UTC()}},
		})
	}
	config, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	m, err := backends.NewManifest(config, layers, r)
	if err != nil {
		t.Fatal(err)
	}
	blobs[m.Config.Digest] = config
	return m, blobs
}
