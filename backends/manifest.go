package backends

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/cachegraph"
)

// Manifest is one scope's cache. Its form is one of
//
//   - an OCI image manifest whose config is the cache config, as BuildKit's registry exporter
//     writes it (v0.34.2, cache/remotecache/export.go)
//   - an OCI index, or a Docker manifest list, in which the cache config is one entry among
//     the layers (as above)
//   - an image that contains its cache
//   - an annotated cache config, as object stores have it
type Manifest struct {
	MediaType string
	Raw       []byte                // as stored; its digest is the manifest's
	Config    ocispecs.Descriptor   // the cache config's; the zero value when the config is in Inline
	Layers    []ocispecs.Descriptor // the layers, each once, in the order of their first occurrence
	Inline    []byte                // the cache config as JSON, when it is not a blob of its own
	Record    Record                // who wrote it; the zero value when another tool did
	Version   string                // of the scope in its store, for [Scopes].Swap; "" for a manifest that was not read from one
}

// Blobs are the descriptors of all blobs that a complete cache has in the store.
func (m Manifest) Blobs() []ocispecs.Descriptor {
	if m.Config.Digest == "" {
		return slices.Clone(m.Layers)
	}
	return append([]ocispecs.Descriptor{m.Config}, m.Layers...)
}

// Bytes are the sizes of all layers together.
func (m Manifest) Bytes() int64 {
	var all int64
	for _, l := range m.Layers {
		all += l.Size
	}
	return all
}

// Descriptor is that of the raw manifest.
func (m Manifest) Descriptor() ocispecs.Descriptor {
	return ocispecs.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(m.Raw), Size: int64(len(m.Raw))}
}

// MaxManifest is the largest manifest in bytes that is read; registries commonly take 4 MiB.
const MaxManifest = 16 << 20

// ParseManifest reads a manifest, index or manifest list, and the record in its annotations.
// It refuses one that is too large.
// The media type in the document takes precedence over mediaType, which may be empty.
func ParseManifest(raw []byte, mediaType string) (Manifest, error) {
	var doc struct {
		MediaType   string                `json:"mediaType"`
		Config      ocispecs.Descriptor   `json:"config"`
		Layers      []ocispecs.Descriptor `json:"layers"`
		Manifests   []ocispecs.Descriptor `json:"manifests"`
		Annotations map[string]string     `json:"annotations"`
	}
	if len(raw) > MaxManifest {
		return Manifest{}, fmt.Errorf("parse manifest: %d bytes are more than the %d that are read", len(raw), MaxManifest)
	}
	if err := cachegraph.CheckText(raw); err != nil {
		return Manifest{}, fmt.Errorf("parse manifest: %w", err)
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return Manifest{}, fmt.Errorf("parse manifest: %w", err)
	}
	if string(bytes.TrimSpace(raw)) == "null" {
		return Manifest{}, errors.New("parse manifest: no document")
	}
	m := Manifest{MediaType: mediaType, Raw: raw, Record: parseRecord(doc.Annotations)}
	if doc.MediaType != "" {
		m.MediaType = doc.MediaType
	}
	entries := doc.Layers
	switch m.MediaType {
	case ocispecs.MediaTypeImageManifest, images.MediaTypeDockerSchema2Manifest:
		if doc.Config.MediaType == cacheconfig.CacheConfigMediaTypeV0 {
			m.Config = doc.Config
		}
	case ocispecs.MediaTypeImageIndex, images.MediaTypeDockerSchema2ManifestList:
		entries = doc.Manifests
	default:
		return Manifest{}, fmt.Errorf("parse manifest: media type %q is not a cache's", m.MediaType)
	}
	return m, m.addLayers(entries)
}

func (m *Manifest) addLayers(entries []ocispecs.Descriptor) error {
	seen := map[digest.Digest]bool{}
	for _, e := range entries {
		if err := e.Digest.Validate(); err != nil {
			return fmt.Errorf("parse manifest: digest %q: %w", e.Digest, err)
		}
		if e.MediaType == cacheconfig.CacheConfigMediaTypeV0 {
			m.Config = e
		} else if !seen[e.Digest] {
			seen[e.Digest] = true
			m.Layers = append(m.Layers, e)
		}
	}
	if m.Config.Digest == "" {
		return nil
	}
	if err := m.Config.Digest.Validate(); err != nil {
		return fmt.Errorf("parse manifest: digest %q: %w", m.Config.Digest, err)
	}
	return nil
}

// With is a manifest of the same form with another config and other layers. It has no annotations.
func (m Manifest) With(config []byte, layers []ocispecs.Descriptor) (Manifest, error) {
	image, err := NewManifest(config, layers, Record{})
	if err != nil || !isIndex(m.MediaType) {
		return image, err
	}
	raw, err := json.Marshal(ocispecs.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: m.MediaType, Manifests: append(slices.Clone(layers), image.Config),
	})
	if err != nil {
		return Manifest{}, fmt.Errorf("write cache index: %w", err)
	}
	return ParseManifest(raw, m.MediaType)
}

func isIndex(mediaType string) bool {
	return mediaType == ocispecs.MediaTypeImageIndex || mediaType == images.MediaTypeDockerSchema2ManifestList
}

// WithRecord is the same manifest with r in place of its former record. Records are
// annotations, which importers ignore. All other fields of the document are kept, also
// unknown ones.
func (m Manifest) WithRecord(r Record) (Manifest, error) {
	doc := map[string]json.RawMessage{}
	if err := json.Unmarshal(m.Raw, &doc); err != nil {
		return Manifest{}, fmt.Errorf("annotate manifest: %w", err)
	}
	var others map[string]string
	if raw, ok := doc["annotations"]; ok {
		if err := json.Unmarshal(raw, &others); err != nil {
			return Manifest{}, fmt.Errorf("annotate manifest: %w", err)
		}
	}
	annotations := r.annotations()
	for k, v := range others {
		if !strings.HasPrefix(k, annotation) {
			annotations[k] = v
		}
	}
	var err error
	if doc["annotations"], err = json.Marshal(annotations); err != nil {
		return Manifest{}, fmt.Errorf("annotate manifest: %w", err)
	}
	if m.Raw, err = json.Marshal(doc); err != nil {
		return Manifest{}, fmt.Errorf("annotate manifest: %w", err)
	}
	m.Record = r
	return m, nil
}

// Record says which build wrote a scope, and what it exported. It proves nothing: everyone who
// can write to the store can write any record.
type Record struct {
	Branch  string    // as Git names it; "" for the scope of a pull request or a tag
	PR      int       // the pull request's number; 0 for none
	Key     string    // the input cache-key; "" for none
	Commit  string    // full hash; "" when unknown
	Repo    string    // owner/name; "" when unknown
	URL     string    // page of the run; "" when unknown
	Time    time.Time // of the export, with a precision of a second
	Version string    // of warmlayer
	Result  string    // see [ResultKey]; "" when unknown
	Hits    int       // steps of the build that were cached
	Steps   int       // all steps of the build; 0: unknown

	Created  time.Time // when the scope had no cache before; zero: unknown
	Mode     string    // of the export: min or max; "" when unknown
	Variants int       // that the scope holds; 0: unknown
}

const annotation = "dev.warmlayer."

func (r Record) annotations() map[string]string {
	all := map[string]string{
		"branch": r.Branch, "key": r.Key, "commit": r.Commit, "repo": r.Repo, "url": r.URL,
		"version": r.Version, "result": r.Result, "mode": r.Mode, "time": r.Time.UTC().Format(time.RFC3339),
	}
	if !r.Created.IsZero() {
		all["created"] = r.Created.UTC().Format(time.RFC3339)
	}
	if r.Variants != 0 {
		all["variants"] = strconv.Itoa(r.Variants)
	}
	if r.Steps != 0 {
		all["cached"] = fmt.Sprintf("%d/%d", r.Hits, r.Steps)
	}
	if r.PR != 0 {
		all["pull-request"] = strconv.Itoa(r.PR)
	}
	out := map[string]string{}
	for k, v := range all {
		if v != "" {
			out[annotation+k] = v
		}
	}
	return out
}

// parseRecord is lenient: a field that cannot be read has its zero value, so that a cache is
// used even when its record is damaged.
func parseRecord(a map[string]string) Record {
	r := Record{
		Branch: a[annotation+"branch"], Key: a[annotation+"key"], Commit: a[annotation+"commit"],
		Repo: a[annotation+"repo"], URL: a[annotation+"url"], Version: a[annotation+"version"],
		Result: a[annotation+"result"], Mode: a[annotation+"mode"],
	}
	r.Variants, _ = strconv.Atoi(a[annotation+"variants"])
	r.Created, _ = time.Parse(time.RFC3339, a[annotation+"created"])
	r.PR, _ = strconv.Atoi(a[annotation+"pull-request"])
	hits, steps, _ := strings.Cut(a[annotation+"cached"], "/")
	r.Hits, _ = strconv.Atoi(hits)
	r.Steps, _ = strconv.Atoi(steps)
	r.Time, _ = time.Parse(time.RFC3339, a[annotation+"time"])
	return r
}

// ResultKey identifies the content of an export, as "sha256:<hex>". It covers the export's
// attributes and the content of the result: digests of an image's config, or of an index or
// its manifests, which cover the layers. It is "" when content is "".
func ResultKey(attrs map[string]string, content string) string {
	if content == "" {
		return ""
	}
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		fmt.Fprintf(h, "%q=%q\n", k, attrs[k])
	}
	fmt.Fprintf(h, "%q\n", content)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
