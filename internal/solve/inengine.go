package solve

import (
	"cmp"
	"context"
	"maps"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config/types"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// exporterMoby is the exporter of the BuildKit inside a container engine that makes images in the engine's
// store, and pushes them where that is containerd's (docker buildx v0.37.0, build/opt.go, toSolveOpt).
const exporterMoby = "moby"

// madeInside tells whether that exporter makes an output: an image that is to be in the engine or in a registry.
func (b *run) madeInside(o inputs.Output) bool {
	return b.Builder.Inside != nil && (o.Type == client.ExporterImage || loads(o) && o.Attrs["context"] == "")
}

// insideOutput is the export of an image into the store of the engine that builds. A graph driver's store
// takes the names alone: the layers are not compressed, and the engine pushes them: see pushInside.
func (b *run) insideOutput(o inputs.Output) client.ExportEntry {
	attrs := maps.Clone(o.Attrs)
	switch {
	case !b.Builder.Inside.Containerd:
		maps.DeleteFunc(attrs, func(key, _ string) bool { return key != "name" })
	case syntax.IsTrue(attrs["rewrite-timestamp"]) && attrs["unpack"] == "":
		attrs["unpack"] = "false" // which BuildKit does not do with such layers, and the engine does before it runs them
	}
	b.indexes = b.Builder.Inside.Containerd
	return client.ExportEntry{Type: exporterMoby, Attrs: attrs}
}

// graphDriver tells whether the builder is inside an engine whose images are in a graph driver's store. It
// has no other exporter of images, and keeps layers without compression.
func (b *run) graphDriver() bool { return b.Builder.Inside != nil && !b.Builder.Inside.Containerd }

// pushInside lets the engine push the image that its BuildKit has made in a graph driver's store. The answer
// then has the digest in the registry in place of that in the engine, as in buildx (build/build.go). BuildKit of
// Docker 20.10 names neither the image nor its config.
func (b *run) pushInside(ctx context.Context, response *client.SolveResponse) error {
	if !b.graphDriver() {
		return nil
	}
	answer := response.ExporterResponse
	for _, o := range b.Inputs.Outputs {
		if b.madeInside(o) && o.Attrs["name"] != "" {
			answer[exptypes.ExporterImageNameKey] = o.Attrs["name"]
		}
	}
	for i, name := range b.Inputs.Pushed() {
		if i == 0 {
			b.handedOver = time.Now()
		}
		auth, err := b.engineAuth(ctx, name)
		if err != nil {
			return err
		}
		pushed, err := b.Builder.Inside.Push(ctx, name, auth, b.display)
		if err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		if answer[exptypes.ExporterImageConfigDigestKey] == "" {
			answer[exptypes.ExporterImageConfigDigestKey] = answer[exptypes.ExporterImageDigestKey]
		}
		answer[exptypes.ExporterImageDigestKey] = pushed.String()
	}
	return nil
}

// engineAuth are the credentials for a push.
func (b *run) engineAuth(ctx context.Context, image string) (types.AuthConfig, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil || b.Auth == nil {
		return types.AuthConfig{}, err
	}
	return b.Auth(ctx, reference.Domain(named), []string{"repository:" + reference.Path(named) + ":pull,push"}, nil)
}

// hasLayersInside reports whether the image that was made in a graph driver's store has a layer. It is true where
// that cannot be found out.
func (b *run) hasLayersInside(ctx context.Context, answer map[string]string) bool {
	image, err := b.Builder.Inside.ImageInspect(ctx, cmp.Or(answer[exptypes.ExporterImageConfigDigestKey], answer[exptypes.ExporterImageDigestKey]))
	return err != nil || len(image.RootFS.Layers) > 0
}

// hosts are the hosts of the input add-hosts. host-gateway is the machine of the engine that builds.
func (b *run) hosts() []syntax.Pair {
	var all []syntax.Pair
	for _, h := range b.Inputs.AddHosts {
		if h.Value == inputs.HostGateway {
			h.Value = b.Builder.HostGateway
		}
		all = append(all, h)
	}
	return all
}
