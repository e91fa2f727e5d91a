package backends

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/pkg/labels"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/cachegraph"
)

// Object stores (s3, azblob, gha) have no manifests. BuildKit keeps a cache there as one
// document: its cache config, in which each layer has annotations in place of a descriptor
// (v0.34.2, cache/remotecache/s3/s3.go, Finalize):
//
//	{"layers": [{"blob": "sha256:…", "parent": -1, "annotations":
//	  {"mediaType": "…tar+zstd", "diffID": "sha256:…", "size": 2312, "createdAt": "…"}}],
//	 "records": […]}

// createdAt is BuildKit's annotation with the time at which a layer was created, in RFC 3339.
const createdAt = "buildkit/createdat"

// annotateConfig adds the layers' descriptors to a cache config, as annotations. It is an
// error when the config names a layer without a descriptor.
func annotateConfig(config []byte, layers []ocispecs.Descriptor) ([]byte, error) {
	var doc cachegraph.Document
	if err := json.Unmarshal(config, &doc); err != nil {
		return nil, fmt.Errorf("parse cache config: %w", err)
	}
	annotations := map[digest.Digest]*cacheconfig.LayerAnnotations{}
	for _, l := range layers {
		a, err := layerAnnotations(l)
		if err != nil {
			return nil, fmt.Errorf("annotate layer %s: %w", l.Digest, err)
		}
		annotations[l.Digest] = a
	}
	for i, l := range doc.Layers {
		if annotations[l.Blob] == nil {
			return nil, fmt.Errorf("annotate layer %s: the manifest does not name it", l.Blob)
		}
		doc.Layers[i].Annotations = annotations[l.Blob]
	}
	return json.Marshal(doc)
}

func layerAnnotations(l ocispecs.Descriptor) (*cacheconfig.LayerAnnotations, error) {
	a := &cacheconfig.LayerAnnotations{MediaType: l.MediaType, Size: l.Size}
	var err error
	if a.DiffID, err = digest.Parse(l.Annotations[labels.LabelUncompressed]); err != nil {
		return nil, fmt.Errorf("its %s: %w", labels.LabelUncompressed, err)
	}
	if created := l.Annotations[createdAt]; created != "" {
		if a.CreatedAt, err = time.Parse(time.RFC3339, created); err != nil {
			return nil, fmt.Errorf("its %s: %w", createdAt, err)
		}
		a.CreatedAt = a.CreatedAt.UTC()
	}
	return a, nil
}

// configManifest is the Manifest of an annotated cache config. Its Raw is an image manifest
// of the same blobs, with the record r; Inline is the config.
func configManifest(config []byte, r Record) (Manifest, error) {
	var doc cacheconfig.CacheConfig
	if err := cachegraph.CheckText(config); err != nil {
		return Manifest{}, fmt.Errorf("parse cache config: %w", err)
	}
	if err := json.Unmarshal(config, &doc); err != nil {
		return Manifest{}, fmt.Errorf("parse cache config: %w", err)
	}
	var layers []ocispecs.Descriptor
	named := map[digest.Digest]bool{}
	for _, l := range doc.Layers {
		if named[l.Blob] {
			continue
		}
		named[l.Blob] = true
		desc, err := layerDescriptor(l)
		if err != nil {
			return Manifest{}, fmt.Errorf("parse cache config: layer %q: %w", l.Blob, err)
		}
		layers = append(layers, desc)
	}
	m, err := NewManifest(config, layers, r)
	if err != nil {
		return Manifest{}, err
	}
	m.Config, m.Inline = ocispecs.Descriptor{}, config
	return m, nil
}

// NewManifest is the image manifest that BuildKit's registry exporter would write of a
// cache config and its layers (v0.34.2, cache/remotecache/export.go, Finalize), with the
// record; the zero value leaves that out.
func NewManifest(config []byte, layers []ocispecs.Descriptor, r Record) (Manifest, error) {
	image := ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispecs.MediaTypeImageManifest,
		Config: ocispecs.Descriptor{
			MediaType: cacheconfig.CacheConfigMediaTypeV0,
			Digest:    digest.FromBytes(config),
			Size:      int64(len(config)),
		},
		Layers: append([]ocispecs.Descriptor{}, layers...),
	}
	if r != (Record{}) {
		image.Annotations = r.annotations()
	}
	raw, err := json.Marshal(image)
	if err != nil {
		return Manifest{}, fmt.Errorf("write cache manifest: %w", err)
	}
	return ParseManifest(raw, image.MediaType)
}

func layerDescriptor(l cacheconfig.CacheLayer) (ocispecs.Descriptor, error) {
	if l.Annotations == nil {
		return ocispecs.Descriptor{}, errors.New("it has no annotations")
	}
	if err := l.Annotations.DiffID.Validate(); err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("diffID %q: %w", l.Annotations.DiffID, err)
	}
	annotations := map[string]string{labels.LabelUncompressed: l.Annotations.DiffID.String()}
	if created := l.Annotations.CreatedAt; !created.IsZero() {
		annotations[createdAt] = created.Format(time.RFC3339Nano)
	}
	return ocispecs.Descriptor{
		MediaType: l.Annotations.MediaType, Digest: l.Blob, Size: l.Annotations.Size, Annotations: annotations,
	}, nil
}

// configs holds cache configs that were put as blobs, until their manifest is put: object
// stores keep configs in another form. The zero value is ready to use.
type configs struct {
	mu   sync.Mutex
	held map[digest.Digest][]byte
}

// hold reports whether content is a cache config, and keeps it if so. A config is JSON; a
// layer is an archive, which is never JSON, compressed or not.
func (c *configs) hold(d digest.Digest, content []byte) bool {
	if len(content) == 0 || content[0] != '{' || !json.Valid(content) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[digest.Digest][]byte{}
	}
	c.held[d] = content
	return true
}

// config is the held config with this digest, or nil.
func (c *configs) config(d digest.Digest) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[d]
}

// metadataKey is the key in an object's metadata that holds the record. Every store accepts it.
const metadataKey = "warmlayer"

// maxMetadata is Amazon S3's limit in bytes for all metadata of an object, minus the
// keys and the digest (user guide, "Working with object metadata": 2 KB).
const maxMetadata = 1900

// metadata is the record as an object's metadata. Metadata is ASCII, so the record is encoded
// as a URL's query: "branch=feature%2F%C3%A4&time=…". A record that is too long loses fields
// that only people read. The zero Record has no metadata.
func (r Record) metadata() map[string]string {
	if r == (Record{}) {
		return nil
	}
	fields := url.Values{}
	for k, v := range r.annotations() {
		fields.Set(strings.TrimPrefix(k, annotation), v)
	}
	for _, field := range []string{"url", "branch", "repo", "key", "commit"} {
		if len(fields.Encode()) > maxMetadata {
			fields.Del(field)
		}
	}
	return map[string]string{metadataKey: fields.Encode()}
}

// metadataRecord is the record in an object's metadata. It is as lenient as parseRecord.
func metadataRecord(metadata map[string]string) Record {
	annotations := map[string]string{}
	fields, _ := url.ParseQuery(metadata[metadataKey]) // with an error it returns the fields that are valid
	for k := range fields {
		annotations[annotation+k] = fields.Get(k)
	}
	return parseRecord(annotations)
}
