package backends

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	cacheimport "github.com/moby/buildkit/cache/remotecache/v1"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const layerMediaType = ocispecs.MediaTypeImageLayerZstd

// twoLayers is a cache of one record whose result is two layers, the second on top of the first.
func twoLayers(t testing.TB) ([]byte, []ocispecs.Descriptor) {
	t.Helper()
	var layers []ocispecs.Descriptor
	for i, content := range []string{"one", "two"} {
		layers = append(layers, ocispecs.Descriptor{
			MediaType: layerMediaType, Digest: digest.FromString(content), Size: int64(len(content)),
			Annotations: map[string]string{
				"containerd.io/uncompressed": digest.FromString("tar of " + content).String(),
				"buildkit/createdat":         time.Date(2026, 3, 1+i, 12, 0, 0, 123456789, time.UTC).Format(time.RFC3339Nano),
			},
		})
	}
	delete(layers[1].Annotations, "buildkit/createdat")
	config, err := json.Marshal(cacheconfig.CacheConfig{
		Layers: []cacheconfig.CacheLayer{
			{Blob: layers[0].Digest, ParentIndex: -1},
			{Blob: layers[1].Digest, ParentIndex: 0},
			{Blob: layers[0].Digest, ParentIndex: -1},
		},
		Records: []cacheconfig.CacheRecord{{Digest: digest.FromString("step"), Results: []cacheconfig.CacheResult{{LayerIndex: 1}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return config, layers
}

func TestConfigRoundTrip(t *testing.T) {
	t.Parallel()
	plain, layers := twoLayers(t)
	annotated, err := annotateConfig(plain, layers)
	if err != nil {
		t.Fatal(err)
	}
	record := Record{Branch: "main", Time: time.Unix(1_700_000_000, 0).UTC(), Result: "sha256:00"}
	m, err := configManifest(annotated, record)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m.Layers, layers) {
		t.Errorf("layers %v\nwant   %v", m.Layers, layers)
	}
	if m.Record != record || string(m.Inline) != string(annotated) || m.Config.Digest != "" {
		t.Errorf("record %+v, config %s", m.Record, m.Inline)
	}
}

// BuildKit's own parser reads the document, and finds everything in it.
func TestConfigIsBuildKits(t *testing.T) {
	t.Parallel()
	plain, layers := twoLayers(t)
	annotated, err := annotateConfig(plain, layers)
	if err != nil {
		t.Fatal(err)
	}
	var doc cacheconfig.CacheConfig
	if err := json.Unmarshal(annotated, &doc); err != nil {
		t.Fatal(err)
	}
	provider := cacheimport.DescriptorProvider{}
	for _, l := range doc.Layers {
		if l.Annotations == nil {
			t.Fatalf("layer %s has no annotations", l.Blob)
		}
		provider[l.Blob] = cacheimport.DescriptorProviderPair{Descriptor: ocispecs.Descriptor{
			MediaType: l.Annotations.MediaType, Digest: l.Blob, Size: l.Annotations.Size,
		}}
	}
	chains := cacheimport.NewCacheChains()
	if err := cacheimport.ParseConfig(doc, provider, chains); err != nil {
		t.Fatal(err)
	}
	config, found, err := chains.Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Records) != 1 || len(config.Layers) != 2 {
		t.Fatalf("records %v, layers %v", config.Records, config.Layers)
	}
	if got := found[layers[1].Digest].Descriptor; got.Size != 3 || got.MediaType != layerMediaType {
		t.Errorf("BuildKit's parser read %+v", got)
	}
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	plain, layers := twoLayers(t)
	bare := layers[0]
	bare.Annotations = nil
	late := layers[0]
	late.Annotations = map[string]string{"containerd.io/uncompressed": digest.FromString("x").String(), "buildkit/createdat": "noon"}
	annotate := map[string][]ocispecs.Descriptor{
		"does not name it":           layers[:1],
		"containerd.io/uncompressed": {bare, layers[1]},
		"buildkit/createdat":         {late, layers[1]},
	}
	for want, layers := range annotate {
		if _, err := annotateConfig(plain, layers); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	for text, want := range map[string]string{
		`{"layers":`: "parse cache config",
		`{"layers":[{"blob":"sha256:00","parent":-1}]}`:                                          "no annotations",
		`{"layers":[{"blob":"x","annotations":{"diffID":"x"}}]}`:                                 `diffID "x"`,
		`{"layers":[{"blob":"x","annotations":{"diffID":"` + layers[0].Digest.String() + `"}}]}`: `digest "x"`,
	} {
		if _, err := configManifest([]byte(text), Record{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	full := Record{
		Branch: "feature/ä\n🚀;x=y", PR: 7, Key: "web", Commit: strings.Repeat("c0", 20), Repo: "o/r", URL: "https://ci.example/run?id=1&x=2",
		Time: time.Unix(1_700_000_000, 0).UTC(), Version: "v1.2.3", Result: "sha256:00",
	}
	for _, r := range []Record{{}, full} {
		if got := metadataRecord(r.metadata()); got != r {
			t.Errorf("record %+v\nwant   %+v", got, r)
		}
	}
	full.Branch = strings.Repeat("🚀", 300)
	m := full.metadata()
	if got := metadataRecord(m); got.Result != full.Result || !got.Time.Equal(full.Time) || got.Branch != "" || got.Commit != full.Commit {
		t.Errorf("a long record is cut to %+v", got)
	}
	if v := m[metadataKey]; len(v) > maxMetadata || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.Errorf("metadata of %d bytes: %q", len(v), v)
	}
}

// The document comes from anyone who can write to the bucket.
func FuzzConfigManifest(f *testing.F) {
	plain, layers := twoLayers(f)
	annotated, err := annotateConfig(plain, layers)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(annotated, "branch=main&time=2026-03-01T12:00:00Z")
	f.Add([]byte(`{"layers":[{"blob":"x","annotations":{}}]}`), "branch=%zz")
	f.Fuzz(func(t *testing.T, config []byte, metadata string) {
		m, err := configManifest(config, metadataRecord(map[string]string{metadataKey: metadata}))
		if err != nil {
			return
		}
		again, err := annotateConfig(config, m.Layers)
		if err != nil {
			t.Skip() // a config may name one layer with two descriptors
		}
		if second, err := configManifest(again, m.Record); err != nil || len(second.Layers) != len(m.Layers) {
			t.Errorf("%d layers became %d: %v", len(m.Layers), len(second.Layers), err)
		}
	})
}
