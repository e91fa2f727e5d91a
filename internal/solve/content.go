package solve

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/util/attestation"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
)

// blob reads from the daemon's content store.
func (b *run) blob(ctx context.Context, d ocispecs.Descriptor) ([]byte, error) {
	return content.ReadBlob(ctx, proxy.NewContentStore(b.Builder.Client.ContentClient()), d)
}

// made identifies the result of the build solve. The config of an image covers its layers and their
// times, which a cache keeps. An index is identified by its images without their attestations,
// which contain the time of the build.
func (b *run) made(ctx context.Context, response *client.SolveResponse) cacheplan.Exported {
	answer := response.ExporterResponse
	e := cacheplan.Exported{
		Content: answer[exptypes.ExporterImageConfigDigestKey],
		Image:   digest.Digest(answer[exptypes.ExporterImageDigestKey]),
		Blobs:   proxy.NewContentStore(b.Builder.Client.ContentClient()),
	}
	if e.Content == "" {
		e.Content = e.Image.String()
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	made, err := b.images(ctx, answer)
	if err != nil {
		return e // after a change of the index the cache is exported once more, which does no harm
	}
	var manifests []string
	for _, m := range made {
		manifests, e.Images = append(manifests, m.Digest.String()), append(e.Images, m.Digest)
	}
	if len(made) == 1 && made[0].Digest == e.Image {
		return e
	}
	e.Content = strings.Join(manifests, " ")
	return e
}

// images are the images that a solve made, without their attestations: one, or those of an index.
func (b *run) images(ctx context.Context, answer map[string]string) ([]ocispecs.Descriptor, error) {
	var d ocispecs.Descriptor
	text, err := base64.StdEncoding.DecodeString(answer[exptypes.ExporterImageDescriptorKey])
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil || !images.IsIndexType(d.MediaType) {
		return []ocispecs.Descriptor{d}, err
	}
	var index ocispecs.Index
	if text, err = b.blob(ctx, d); err == nil {
		err = json.Unmarshal(text, &index)
	}
	isAttestation := func(m ocispecs.Descriptor) bool {
		return m.Annotations[attestation.DockerAnnotationReferenceType] != ""
	}
	return slices.DeleteFunc(index.Manifests, isAttestation), err
}

// layers are the digests of each image's layers, the base's first; nil where they cannot be read.
func (b *run) layers(ctx context.Context, images []digest.Digest) [][]digest.Digest {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var all [][]digest.Digest
	for _, d := range images {
		var m ocispecs.Manifest
		text, err := b.blob(ctx, ocispecs.Descriptor{Digest: d})
		if err != nil || json.Unmarshal(text, &m) != nil {
			return nil
		}
		var layers []digest.Digest
		for _, l := range m.Layers {
			layers = append(layers, l.Digest)
		}
		all = append(all, layers)
	}
	return all
}

// hasLayers reports whether a solve without steps made an image with a layer. It is true where that
// cannot be found out.
func (b *run) hasLayers(ctx context.Context, answer map[string]string) bool {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if b.graphDriver() {
		return b.hasLayersInside(ctx, answer)
	}
	made, err := b.images(ctx, answer)
	for _, d := range made {
		var m ocispecs.Manifest
		var text []byte
		if err == nil {
			text, err = b.blob(ctx, d)
		}
		if err != nil || json.Unmarshal(text, &m) != nil || len(m.Layers) > 0 {
			return true
		}
	}
	return err != nil
}
