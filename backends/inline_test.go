package backends_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// newImage is an image with a layer for each content, whose config has a cache with a record for
// each (BuildKit v0.34.2, cache/remotecache/inline).
func newImage(t testing.TB, withCache bool, contents ...string) cache {
	t.Helper()
	made := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	c := cache{blobs: map[digest.Digest][]byte{}}
	var records []cacheconfig.CacheRecord
	var layers []ocispecs.Descriptor
	image := struct {
		ocispecs.Image
		Cache []byte `json:"moby.buildkit.cache.v0,omitempty"`
	}{}
	image.History = []ocispecs.History{{CreatedBy: "ENV a=b", EmptyLayer: true, Created: &made}}
	for i, content := range contents {
		layers = append(layers, c.add(ocispecs.MediaTypeImageLayerGzip, []byte(content)))
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, digest.FromString("tar of "+content))
		image.History = append(image.History, ocispecs.History{CreatedBy: "RUN " + content, Created: &made})
		record := cacheconfig.CacheRecord{
			Digest:  key(content),
			Results: []cacheconfig.CacheResult{{LayerIndex: i, CreatedAt: made}},
		}
		if i > 0 {
			record.Inputs = [][]cacheconfig.CacheInput{{{LinkIndex: i - 1}}}
		}
		records = append(records, record)
	}
	if withCache {
		image.Cache = encode(t, records)
	}
	config := c.add(ocispecs.MediaTypeImageConfig, encode(t, image))
	var err error
	if c.Manifest, err = backends.ParseManifest(manifestText(t, imageManifest, config, layers), ""); err != nil {
		t.Fatal(err)
	}
	return c
}

// newIndex is an index of images.
func newIndex(t testing.TB, images ...cache) cache {
	t.Helper()
	c := cache{blobs: map[digest.Digest][]byte{}}
	var entries []ocispecs.Descriptor
	for _, image := range images {
		entries = append(entries, image.Descriptor())
	}
	raw := encode(t, ocispecs.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imageIndex, Manifests: entries})
	var err error
	if c.Manifest, err = backends.ParseManifest(raw, ""); err != nil {
		t.Fatal(err)
	}
	return c
}

// pushImage pushes an image or an index by its digest.
func (c cache) pushImage(t testing.TB, repo string) {
	t.Helper()
	c.push(t, repo)
	ref, err := name.NewDigest(repo + "@" + c.Descriptor().Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Put(ref, document{c.Manifest}); err != nil {
		t.Fatal(err)
	}
}

// document is a manifest in go-containerregistry's form.
type document struct{ backends.Manifest }

func (d document) RawManifest() ([]byte, error) { return d.Raw, nil }
func (d document) MediaType() (types.MediaType, error) {
	return types.MediaType(d.Manifest.MediaType), nil
}

// asImported is the cache in an inline cache, as BuildKit reads it from a cache manifest.
func asImported(t testing.TB, m backends.Manifest) solver.CacheManager {
	t.Helper()
	c := cache{blobs: map[digest.Digest][]byte{}}
	raw := manifestText(t, imageManifest, c.add(cacheconfig.CacheConfigMediaTypeV0, m.Inline), m.Layers)
	again, err := backends.ParseManifest(raw, "")
	if err != nil {
		t.Fatal(err)
	}
	return imported(t, again, c.blobs)
}

func TestInline(t *testing.T) {
	t.Parallel()
	repo := testkit.StartRegistry(t).Host + "/o/app"
	amd64, arm64 := newImage(t, true, "base", "amd64"), newImage(t, true, "other base", "arm64", "more")
	attestation := newImage(t, false, "provenance")
	for _, image := range []cache{amd64, arm64, attestation} {
		image.pushImage(t, repo)
	}
	index, bare := newIndex(t, amd64, arm64, attestation), newIndex(t, attestation)
	index.pushImage(t, repo)
	bare.pushImage(t, repo)
	c := backend(t, cachespec.Environment{Images: []string{repo + ":v1"}}, "inline").(*backends.Inline)
	for _, test := range []struct {
		name   string
		image  cache
		hits   []string
		misses []string
	}{
		{"image", amd64, []string{"base", "base amd64"}, []string{"amd64", "other base", "base arm64"}},
		{"index", index, []string{"base", "base amd64", "other base", "other base arm64", "other base arm64 more"}, []string{"base arm64", "other base more", "provenance"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := scope.Name("b-" + test.name)
			if err := c.Tag(t.Context(), n, test.image.Descriptor().Digest.String()); err != nil {
				t.Fatal(err)
			}
			plan := scope.Plan{Read: []scope.Source{{Name: n}}}
			s := verified(t.Context(), []backends.Backend{c}, plan, time.Minute)[0]
			if outcome(s) != loaded || s.Manifest.Descriptor().Digest != test.image.Descriptor().Digest {
				t.Fatalf("%s: %v, %s", outcome(s), s.Err, s.Manifest.Descriptor().Digest)
			}
			checkLayers(t, s.Config)
			cache := asImported(t, s.Manifest)
			for _, steps := range test.hits {
				if !hit(t, cache, chain(steps)...) {
					t.Errorf("no hit: %s", steps)
				}
			}
			for _, steps := range test.misses {
				if hit(t, cache, chain(steps)...) {
					t.Errorf("a hit: %s", steps)
				}
			}
		})
	}
	for _, image := range []cache{attestation, bare} {
		if err := c.Tag(t.Context(), "b-none", image.Descriptor().Digest.String()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Scopes().Manifest(t.Context(), "b-none"); err == nil || errors.Is(err, backends.ErrAbsent) || !strings.Contains(err.Error(), "contains no cache") {
			t.Errorf("an image without a cache: %v", err)
		}
	}
	if _, err := c.Scopes().Manifest(t.Context(), "b-absent"); !errors.Is(err, backends.ErrAbsent) {
		t.Errorf("a missing scope: %v", err)
	}
	if err := c.Tag(t.Context(), "b-main", digest.FromString("absent").String()); err == nil {
		t.Error("a missing image was tagged")
	}
}

// checkLayers finds each step's own layer in a config, on top of the layers below it.
func checkLayers(t testing.TB, raw []byte) {
	t.Helper()
	var config cacheconfig.CacheConfig
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	want := map[digest.Digest][]string{
		key("base"): {"base"}, key("amd64"): {"amd64", "base"},
		key("other base"): {"other base"}, key("arm64"): {"arm64", "other base"}, key("more"): {"more", "arm64", "other base"},
	}
	for _, record := range config.Records {
		var got, below []digest.Digest
		for i := record.Results[0].LayerIndex; i >= 0; i = config.Layers[i].ParentIndex {
			got = append(got, config.Layers[i].Blob)
		}
		for _, content := range want[record.Digest] {
			below = append(below, digest.FromString(content))
		}
		if !slices.Equal(got, below) {
			t.Errorf("a record has the layers %s, and not %s", got, below)
		}
	}
}

// chain parses steps such as "other base more"; all except "other base" are one word.
func chain(steps string) []string {
	words := strings.Fields(strings.ReplaceAll(steps, "other base", "other_base"))
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "_", " ")
	}
	return words
}

// The image's config has what BuildKit needs to know about a layer.
func TestInlineLayers(t *testing.T) {
	t.Parallel()
	repo := testkit.StartRegistry(t).Host + "/o/app"
	image := newImage(t, true, "base", "app")
	image.pushImage(t, repo)
	c := backend(t, cachespec.Environment{Images: []string{repo + ":v1"}}, "inline").(*backends.Inline)
	if err := c.Tag(t.Context(), "b-main", image.Descriptor().Digest.String()); err != nil {
		t.Fatal(err)
	}
	m, err := c.Scopes().Manifest(t.Context(), "b-main")
	if err != nil {
		t.Fatal(err)
	}
	for i, content := range []string{"base", "app"} {
		want := " buildkit/createdat=2026-02-03T04:05:06Z buildkit/description=RUN " + content +
			" containerd.io/uncompressed=" + digest.FromString("tar of "+content).String()
		if got := attrsText(m.Layers[i].Annotations); got != want || m.Layers[i].Digest != digest.FromString(content) {
			t.Errorf("layer %s%s\nwant  %s%s", m.Layers[i].Digest, got, digest.FromString(content), want)
		}
	}
}

// The tags of scopes may be in another repository than the image.
func TestInlineElsewhere(t *testing.T) {
	t.Parallel()
	host := testkit.StartRegistry(t).Host
	image := newImage(t, true, "base", "app")
	index := newIndex(t, image)
	image.pushImage(t, host+"/o/app")
	index.pushImage(t, host+"/o/app")
	c := backend(t, cachespec.Environment{Images: []string{host + "/o/app:v1"}}, "type=inline,ref="+host+"/o/cache").(*backends.Inline)
	for n, image := range map[scope.Name]cache{"b-image": image, "b-index": index} {
		if err := c.Tag(t.Context(), n, image.Descriptor().Digest.String()); err != nil {
			t.Fatal(err)
		}
		plan := scope.Plan{Read: []scope.Source{{Name: n}}}
		if s := verified(t.Context(), []backends.Backend{c}, plan, time.Minute)[0]; outcome(s) != loaded || s.Manifest.Descriptor().Digest != image.Descriptor().Digest {
			t.Errorf("%s: %v", outcome(s), s.Err)
		}
	}
}
