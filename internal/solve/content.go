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

// made names what the build solve made. The config of an image covers its layers and
// their times, which a cache keeps. Of an index that are its images without their
// attestations, which say when they were built.
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
		return e // a changed index costs an export more, no wrong one
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
