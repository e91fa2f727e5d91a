package backends

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	cacheconfig "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/scope"
)

// Inline is a cache inside the image's config. Each scope N has an additional tag <prefix>N
// beside the image, through which the cache is read again. The tag has the image's digest, so
// it takes no space.
type Inline struct {
	*cachespec.Inline
	tags *Registry // the repository and prefix of the scopes' tags
}

// Replace implements [Keeping].
func (i *Inline) Replace(digest.Digest) string {
	return keptBy(i.tags.Repository, "and push the image again")
}

func newInline(c *cachespec.Inline, keychain authn.Keychain) *Inline {
	return &Inline{c, newRegistry(&c.Registry, keychain)}
}

// Scopes implements [Backend].
func (i *Inline) Scopes() Scopes { return pushedImages{i.tags} }

// Imports implements [Backend]: BuildKit reads inline caches as registry caches
// (BuildKit v0.34.2, cache/remotecache/import.go).
func (i *Inline) Imports(p scope.Plan) []client.CacheOptionsEntry { return i.tags.Imports(p) }

// Exports implements [Backend]. The entry belongs to the solve that pushes the image.
func (i *Inline) Exports(p scope.Plan) []client.CacheOptionsEntry {
	if p.Write == "" {
		return nil
	}
	return []client.CacheOptionsEntry{{Type: i.Type(), Attrs: map[string]string{}}}
}

// pushedImages reads the caches inside images.
type pushedImages struct{ *Registry }

// Manifest implements [Scopes]. It combines the caches of all images of an index, as
// BuildKit does.
func (r pushedImages) Manifest(ctx context.Context, n scope.Name) (Manifest, error) {
	m, err := r.Registry.Manifest(ctx, n)
	if err != nil {
		return Manifest{}, err
	}
	children := []Manifest{m}
	if types.MediaType(m.MediaType).IsIndex() {
		if children, err = r.children(ctx, m); err != nil {
			return Manifest{}, err
		}
	}
	var all inlineCache
	for _, child := range children {
		if err := r.add(ctx, child, &all); err != nil {
			return Manifest{}, fmt.Errorf("read the cache in %s: %w", r.tag(n), err)
		}
	}
	if len(all.config.Records) == 0 {
		return Manifest{}, fmt.Errorf("the image %s contains no cache", r.tag(n))
	}
	m.Layers = all.layers
	m.Inline, err = json.Marshal(all.config)
	return m, err
}

// children are the images of an index.
func (r pushedImages) children(ctx context.Context, index Manifest) ([]Manifest, error) {
	var out []Manifest
	for _, d := range index.Layers {
		desc, err := r.get(ctx, r.Repository.Digest(d.Digest.String()))
		if err != nil {
			return nil, fmt.Errorf("read %s@%s: %w", r.Repository, d.Digest, err)
		}
		m, err := ParseManifest(desc.Manifest, string(desc.MediaType))
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// add reads one image's config, and adds its cache, if there is one, to to.
func (r pushedImages) add(ctx context.Context, m Manifest, to *inlineCache) error {
	var doc struct {
		Config ocispecs.Descriptor `json:"config"`
	}
	if err := json.Unmarshal(m.Raw, &doc); err != nil {
		return err
	}
	raw, err := ReadBlob(ctx, r, doc.Config, MaxConfig)
	if err != nil {
		return err
	}
	var image inlineImage
	if err := json.Unmarshal(raw, &image); err != nil {
		return fmt.Errorf("parse image config: %w", err)
	}
	if len(image.Cache) == 0 || len(image.RootFS.DiffIDs) != len(m.Layers) {
		return nil // an attestation, or an image that was built without a cache
	}
	return to.add(image, m.Layers)
}

// inlineImage is the part of an image's config that belongs to the cache (BuildKit v0.34.2,
// cache/remotecache/inline and import.go). Cache is a list of cache records in JSON, which
// name the image's layers by their index.
type inlineImage struct {
	RootFS  ocispecs.RootFS    `json:"rootfs"`
	History []ocispecs.History `json:"history"`
	Cache   []byte             `json:"moby.buildkit.cache.v0"`
}

// inlineCache is the caches of several images, in the form of other caches.
type inlineCache struct {
	config cacheconfig.CacheConfig
	layers []ocispecs.Descriptor
}

func (c *inlineCache) add(image inlineImage, layers []ocispecs.Descriptor) error {
	var records []cacheconfig.CacheRecord
	if err := json.Unmarshal(image.Cache, &records); err != nil {
		return fmt.Errorf("parse inline cache: %w", err)
	}
	firstLayer, firstRecord := len(c.config.Layers), len(c.config.Records)
	for i, layer := range describe(layers, image) {
		parent := firstLayer + i - 1
		if i == 0 {
			parent = -1
		}
		c.config.Layers = append(c.config.Layers, cacheconfig.CacheLayer{Blob: layer.Digest, ParentIndex: parent})
		c.layers = append(c.layers, layer)
	}
	for _, record := range records {
		for i := range record.Results {
			record.Results[i].LayerIndex += firstLayer
		}
		for _, result := range record.ChainedResults {
			for i := range result.LayerIndexes {
				result.LayerIndexes[i] += firstLayer
			}
		}
		for _, input := range record.Inputs {
			for i := range input {
				input[i].LinkIndex += firstRecord
			}
		}
		c.config.Records = append(c.config.Records, record)
	}
	return nil
}

// describe adds the annotations that BuildKit expects of a cached layer: its diff ID, the
// time at which it was created, and the command that created it.
func describe(layers []ocispecs.Descriptor, image inlineImage) []ocispecs.Descriptor {
	history := slices.DeleteFunc(slices.Clone(image.History), func(h ocispecs.History) bool { return h.EmptyLayer })
	out := slices.Clone(layers)
	for i := range out {
		a := maps.Clone(out[i].Annotations)
		if a == nil {
			a = map[string]string{}
		}
		a[labels.LabelUncompressed] = image.RootFS.DiffIDs[i].String()
		if i < len(history) && history[i].Created != nil {
			a[createdAt] = history[i].Created.Format(time.RFC3339Nano)
		}
		if i < len(history) && history[i].CreatedBy != "" {
			a["buildkit/description"] = history[i].CreatedBy
		}
		out[i].Annotations = a
	}
	return out
}

// Tag implements [ImageTagged].
func (i *Inline) Tag(ctx context.Context, n scope.Name, digest string) error {
	source := i.Image.Context().Digest(digest)
	desc, err := remote.Get(source, i.tags.remote(ctx)...)
	if err != nil {
		return fmt.Errorf("read %s: %w", source, err)
	}
	if i.Image.Context().Name() == i.Repository.Name() {
		err = remote.Tag(i.tags.tag(n), desc, i.tags.remote(ctx)...)
	} else {
		err = i.copy(ctx, n, desc)
	}
	if err != nil {
		return fmt.Errorf("tag %s: %w", i.tags.tag(n), err)
	}
	return nil
}

// copy copies the image with its layers into the repository of the tags.
func (i *Inline) copy(ctx context.Context, n scope.Name, desc *remote.Descriptor) error {
	if desc.MediaType.IsIndex() {
		index, err := desc.ImageIndex()
		if err != nil {
			return err
		}
		return remote.WriteIndex(i.tags.tag(n), index, i.tags.remote(ctx)...)
	}
	image, err := desc.Image()
	if err != nil {
		return err
	}
	return remote.Write(i.tags.tag(n), image, i.tags.remote(ctx)...)
}
