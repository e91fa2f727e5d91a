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
)

// Stores of objects (s3, azblob, gha) have no manifests. BuildKit keeps a cache there
// as one document: its cache config, in which each layer is annotated with what its
// descriptor would say (v0.33.1, cache/remotecache/s3/s3.go, Finalize):
//
//	{"layers": [{"blob": "sha256:…", "parent": -1, "annotations":
//	  {"mediaType": "…tar+zstd", "diffID": "sha256:…", "size": 2312, "createdAt": "…"}}],
//	 "records": […]}

// createdAt is BuildKit's annotation for the time a layer was made, in RFC 3339.
const createdAt = "buildkit/createdat"

// annotateConfig writes what the layers' descriptors say into a cache config.
func annotateConfig(config []byte, layers []ocispecs.Descriptor) ([]byte, error) {
	var doc cacheconfig.CacheConfig
	if err := json.Unmarshal(config, &doc); err != nil {
		return nil, fmt.Errorf("parse cache config: %w", err)
	}
	notes := map[digest.Digest]*cacheconfig.LayerAnnotations{}
	for _, l := range layers {
		note, err := layerAnnotations(l)
		if err != nil {
			return nil, fmt.Errorf("annotate layer %s: %w", l.Digest, err)
		}
		notes[l.Digest] = note
	}
	for i, l := range doc.Layers {
		if notes[l.Blob] == nil {
			return nil, fmt.Errorf("annotate layer %s: the manifest does not name it", l.Blob)
		}
		doc.Layers[i].Annotations = notes[l.Blob]
	}
	return json.Marshal(doc)
}

func layerAnnotations(l ocispecs.Descriptor) (*cacheconfig.LayerAnnotations, error) {
	note := &cacheconfig.LayerAnnotations{MediaType: l.MediaType, Size: l.Size}
	var err error
	if note.DiffID, err = digest.Parse(l.Annotations[labels.LabelUncompressed]); err != nil {
		return nil, fmt.Errorf("its %s: %w", labels.LabelUncompressed, err)
	}
	if made := l.Annotations[createdAt]; made != "" {
		if note.CreatedAt, err = time.Parse(time.RFC3339, made); err != nil {
			return nil, fmt.Errorf("its %s: %w", createdAt, err)
		}
		note.CreatedAt = note.CreatedAt.UTC()
	}
	return note, nil
}

// configManifest is an annotated cache config in the form that other caches have. Its
// Raw is the image manifest that would name the same blobs, with the record.
func configManifest(config []byte, r Record) (Manifest, error) {
	var doc cacheconfig.CacheConfig
	if err := json.Unmarshal(config, &doc); err != nil {
		return Manifest{}, fmt.Errorf("parse cache config: %w", err)
	}
	image := ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispecs.MediaTypeImageManifest,
		Config: ocispecs.Descriptor{
			MediaType: cacheconfig.CacheConfigMediaTypeV0,
			Digest:    digest.FromBytes(config),
			Size:      int64(len(config)),
		},
		Layers: []ocispecs.Descriptor{},
	}
	if r != (Record{}) {
		image.Annotations = r.annotations()
	}
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
		image.Layers = append(image.Layers, desc)
	}
	raw, err := json.Marshal(image)
	if err != nil {
		return Manifest{}, fmt.Errorf("parse cache config: %w", err)
	}
	m, err := ParseManifest(raw, image.MediaType)
	if err != nil {
		return Manifest{}, err
	}
	m.Config, m.Inline = ocispecs.Descriptor{}, config
	return m, nil
}

func layerDescriptor(l cacheconfig.CacheLayer) (ocispecs.Descriptor, error) {
	if l.Annotations == nil {
		return ocispecs.Descriptor{}, errors.New("it has no annotations")
	}
	if err := l.Annotations.DiffID.Validate(); err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("diffID %q: %w", l.Annotations.DiffID, err)
	}
	annotations := map[string]string{labels.LabelUncompressed: l.Annotations.DiffID.String()}
	if made := l.Annotations.CreatedAt; !made.IsZero() {
		annotations[createdAt] = made.Format(time.RFC3339Nano)
	}
	return ocispecs.Descriptor{
		MediaType: l.Annotations.MediaType, Digest: l.Blob, Size: l.Annotations.Size, Annotations: annotations,
	}, nil
}

// configs keeps back the cache configs that are put as blobs, since stores of
// objects have them in another form. The zero value is ready.
type configs struct {
	mu   sync.Mutex
	held map[digest.Digest][]byte
}

// hold keeps content if it is a cache config, and reports whether it is. A layer, which
// is an archive, compressed or not, is never JSON.
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

// config is one that was held, nil for none.
func (c *configs) config(d digest.Digest) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[d]
}

// metadataKey is the one key of an object's metadata that holds the record: a word
// that every store accepts as a name.
const metadataKey = "warmlayer"

// maxMetadata is what Amazon S3 allows for all of an object's metadata, less the
// key (user guide, "Working with object metadata": 2 KB).
const maxMetadata = 2000

// metadata is the record as an object's metadata, which must be ASCII: the form of a
// URL's query, "branch=feature%2F%C3%A4&time=…". Of a record that is too long for it,
// what only serves people is left out.
func (r Record) metadata() map[string]string {
	if r == (Record{}) {
		return nil
	}
	fields := url.Values{}
	for k, v := range r.annotations() {
		fields.Set(strings.TrimPrefix(k, annotation), v)
	}
	for _, spare := range []string{"url", "branch", "repo", "key", "commit"} {
		if len(fields.Encode()) > maxMetadata {
			fields.Del(spare)
		}
	}
	return map[string]string{metadataKey: fields.Encode()}
}

// metadataRecord is as lenient as parseRecord.
func metadataRecord(metadata map[string]string) Record {
	annotations := map[string]string{}
	fields, _ := url.ParseQuery(metadata[metadataKey]) // what could be read of it
	for k := range fields {
		annotations[annotation+k] = fields.Get(k)
	}
	return parseRecord(annotations)
}
