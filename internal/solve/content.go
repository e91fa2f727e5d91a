package solve

import (
	"context"
	"encoding/base64"
	"encoding/json"
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
	}
	if e.Content == "" {
		e.Content = e.Image.String()
	}
	var d ocispecs.Descriptor
	text, err := base64.StdEncoding.DecodeString(answer[exptypes.ExporterImageDescriptorKey])
	if err != nil || json.Unmarshal(text, &d) != nil || !images.IsIndexType(d.MediaType) {
		return e
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var index ocispecs.Index
	if text, err = b.blob(ctx, d); err != nil || json.Unmarshal(text, &index) != nil {
		return e // after a change of the index the cache is exported once more, which does no harm
	}
	var manifests []string
	for _, m := range index.Manifests {
		if m.Annotations[attestation.DockerAnnotationReferenceType] == "" {
			manifests = append(manifests, m.Digest.String())
		}
	}
	e.Content = strings.Join(manifests, " ")
	return e
}
