package backends_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/cache/remotecache"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/util/contentutil"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
)

func TestParseManifest(t *testing.T) {
	t.Parallel()
	for _, form := range []string{imageManifest, imageIndex, dockerList} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			c := newCache(t, form, "one", "two", "one")
			if c.MediaType != form || c.Config.MediaType != cacheconfig.CacheConfigMediaTypeV0 || c.Record != (backends.Record{}) {
				t.Errorf("manifest %+v", c.Manifest)
			}
			if len(c.Layers) != 2 || c.Layers[0].Digest != digest.FromString("one") || c.Layers[1].Digest != digest.FromString("two") {
				t.Errorf("layers %v", c.Layers)
			}
			if blobs := c.Blobs(); len(blobs) != 3 || blobs[0].Digest != c.Config.Digest {
				t.Errorf("blobs %v", blobs)
			}
			if d := c.Descriptor(); d.Digest != digest.FromBytes(c.Raw) || d.Size != int64(len(c.Raw)) || d.MediaType != form {
				t.Errorf("descriptor %v", d)
			}
		})
	}
}

// An image may contain its cache; its config is then not a cache config.
func TestParseImage(t *testing.T) {
	t.Parallel()
	config := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageConfig, Digest: digest.FromString("config"), Size: 6}
	layer := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayer, Digest: digest.FromString("layer"), Size: 5}
	m, err := backends.ParseManifest(manifestText(t, imageManifest, config, []ocispecs.Descriptor{layer}), "")
	if err != nil || m.Config.Digest != "" || len(m.Layers) != 1 || len(m.Blobs()) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestParseManifestRefuses(t *testing.T) {
	t.Parallel()
	const (
		cacheConfig = `"config":{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`
		oci         = `"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"`
	)
	for name, test := range map[string]struct{ raw, mediaType, want string }{
		"not JSON":           {"<html>", imageManifest, "parse manifest: invalid character"},
		"nothing":            {"", imageManifest, "parse manifest: unexpected end"},
		"null":               {"null", imageManifest, "no document"},
		"no media type":      {`{"schemaVersion":2}`, "", `media type "" is not a cache's`},
		"unknown media type": {`{"mediaType":"application/vnd.example+json"}`, imageManifest, `media type "application/vnd.example+json" is not a cache's`},
		"schema 1":           {`{"schemaVersion":1}`, "application/vnd.docker.distribution.manifest.v1+prettyjws", "is not a cache's"},
		"bad layer digest":   {`{` + oci + `,"layers":[{"digest":"sha256:zz"}]}`, "", `digest "sha256:zz"`},
		"no layer digest":    {`{` + oci + `,` + cacheConfig + `,"layers":[{"size":1}]}`, "", `digest ""`},
		"path for a digest":  {`{` + oci + `,"layers":[{"digest":"sha256:../../../../etc/passwd"}]}`, "", "digest"},
		"bad config digest":  {`{` + oci + `,` + strings.Replace(cacheConfig, "sha256:44", "sha256:zz", 1) + `}`, "", `digest "sha256:zz`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := backends.ParseManifest([]byte(test.raw), test.mediaType); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

var record = backends.Record{
	Branch: "feature/ä", PR: 7, Key: "web", Commit: "33e6d73fee", Repo: "o/app", URL: "https://ci.example/1?a=<b>",
	Time: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Version: "v1.2.3", Result: "sha256:00",
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	for _, r := range []backends.Record{record, {Time: record.Time}, {}} {
		for _, form := range []string{imageManifest, imageIndex, dockerList} {
			m, err := newCache(t, form, "layer").WithRecord(r)
			if err != nil {
				t.Fatal(err)
			}
			again, err := backends.ParseManifest(m.Raw, m.MediaType)
			if err != nil || again.Record != r || m.Record != r {
				t.Errorf("%s: record %+v, want %+v; %v", form, again.Record, r, err)
			}
		}
	}
}

func TestWithRecordKeepsTheRest(t *testing.T) {
	t.Parallel()
	const raw = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","x-number":12345678901234567890,"x-list":[{"b":1,"a":"<&>"}],` +
		`"annotations":{"other":"stays","dev.warmlayer.branch":"old","dev.warmlayer.pull-request":"9"},"layers":[{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"x-layer":true}]}`
	m, err := backends.ParseManifest([]byte(raw), "")
	if err != nil {
		t.Fatal(err)
	}
	if m, err = m.WithRecord(backends.Record{Commit: "33e6d73fee", Time: record.Time}); err != nil {
		t.Fatal(err)
	}
	var before, after map[string]json.RawMessage
	if err := json.Unmarshal([]byte(raw), &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(m.Raw, &after); err != nil {
		t.Fatal(err)
	}
	before["annotations"] = json.RawMessage(`{"dev.warmlayer.commit":"33e6d73fee","dev.warmlayer.time":"2026-02-03T04:05:06Z","other":"stays"}`)
	if got, want := encode(t, after), encode(t, before); !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// An invalid record is ignored, and the cache is used.
func TestSenselessRecord(t *testing.T) {
	t.Parallel()
	m, err := backends.ParseManifest([]byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","annotations":{"dev.warmlayer.pull-request":"x","dev.warmlayer.time":"noon"}}`), "")
	if err != nil || m.Record != (backends.Record{}) {
		t.Errorf("%+v, %v", m.Record, err)
	}
}

// TestRecordIsImportable: BuildKit's own importer reads a manifest with a record.
func TestRecordIsImportable(t *testing.T) {
	t.Parallel()
	for _, form := range []string{imageManifest, imageIndex, dockerList} {
		c := newCache(t, form, "one", "two")
		m, err := c.WithRecord(record)
		if err != nil {
			t.Fatal(err)
		}
		cache := imported(t, m, c.blobs)
		for content, want := range map[string]bool{"one": true, "two": true, "three": false} {
			if hit(t, cache, content) != want {
				t.Errorf("%s: step %s is found: %t", form, content, !want)
			}
		}
	}
}

// imported is a cache in the form of BuildKit's importer.
func imported(t testing.TB, m backends.Manifest, blobs map[digest.Digest][]byte) solver.CacheManager {
	t.Helper()
	all := contentutil.NewBuffer()
	write := func(desc ocispecs.Descriptor, blob []byte) {
		if err := content.WriteBlob(t.Context(), all, desc.Digest.String(), bytes.NewReader(blob), desc); err != nil {
			t.Fatal(err)
		}
	}
	write(m.Descriptor(), m.Raw)
	for d, blob := range blobs {
		write(ocispecs.Descriptor{Digest: d, Size: int64(len(blob))}, blob)
	}
	manager, err := remotecache.NewImporter(all).Resolve(t.Context(), m.Descriptor(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	return manager
}

// hit tells whether a cache has the result of the last of several steps. Each step is the only
// input of the next.
func hit(t testing.TB, cache solver.CacheManager, contents ...string) bool {
	t.Helper()
	var inputs []solver.CacheKeyWithSelector
	var keys []*solver.CacheKey
	for _, content := range contents {
		var err error
		if keys, err = cache.Query(inputs, 0, step(content), 0); err != nil {
			t.Fatal(err)
		}
		if inputs = nil; len(keys) == 0 {
			return false
		}
		for _, key := range keys {
			inputs = append(inputs, solver.CacheKeyWithSelector{CacheKey: solver.ExportableCacheKey{CacheKey: key}})
		}
	}
	records, err := cache.Records(t.Context(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	return len(keys) == 1 && len(records) == 1
}

func FuzzParseManifest(f *testing.F) {
	for _, form := range []string{imageManifest, imageIndex, dockerList} {
		m, err := newCache(f, form, "one", "two").WithRecord(record)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Raw, form)
	}
	f.Add([]byte("null"), imageManifest)
	f.Add([]byte(`{"annotations":null,"layers":[null],"config":null}`), imageManifest)
	f.Add([]byte(`{"mediaType":"","manifests":[{"mediaType":"application/vnd.buildkit.cacheconfig.v0"}]}`), imageIndex)
	f.Fuzz(func(t *testing.T, raw []byte, mediaType string) {
		m, err := backends.ParseManifest(raw, mediaType)
		if err != nil {
			return
		}
		for _, b := range m.Blobs() {
			if err := b.Digest.Validate(); err != nil {
				t.Errorf("a blob %q: %v", b.Digest, err)
			}
		}
		annotated, err := m.WithRecord(record)
		if err != nil {
			t.Fatalf("a valid manifest cannot be annotated: %v", err)
		}
		if again, err := backends.ParseManifest(annotated.Raw, mediaType); err == nil && again.Record != record {
			t.Errorf("the record is %+v", again.Record)
		}
	})
}

func TestResultKey(t *testing.T) {
	t.Parallel()
	seen := map[string]string{"": "no content"}
	for name, key := range map[string]string{
		"one":           backends.ResultKey(map[string]string{"mode": "max", "compression": "zstd"}, "sha256:00"),
		"other content": backends.ResultKey(map[string]string{"mode": "max", "compression": "zstd"}, "sha256:01"),
		"other mode":    backends.ResultKey(map[string]string{"mode": "min", "compression": "zstd"}, "sha256:00"),
		"no attributes": backends.ResultKey(nil, "sha256:00"),
		"moved quotes":  backends.ResultKey(map[string]string{"mode": "max\"\n\"compression\"=\"zstd"}, "sha256:00"),
	} {
		if other, ok := seen[key]; ok {
			t.Errorf("%s has the key of %s", name, other)
		}
		seen[key] = name
	}
	if key := backends.ResultKey(map[string]string{"mode": "max"}, ""); key != "" {
		t.Errorf("an unknown result has the key %s", key)
	}
}
