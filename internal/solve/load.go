package solve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/engineapi"
)

// connectTimeout bounds the wait for an engine's first answer; it may be behind ssh.
const connectTimeout = 20 * time.Second

// connect finds out whether the engine answers, and what kind of store it has.
func (b *run) connect(ctx context.Context, name string) (engineapi.Engine, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c, host, err := b.Engine.Client(name)
	if err != nil {
		return engineapi.Engine{}, fmt.Errorf("load: %w\n"+
			"hint: docker context ls lists the contexts; an engine without one is named by DOCKER_HOST, its certificates by DOCKER_CERT_PATH", err)
	}
	e, err := engineapi.Ask(ctx, c)
	if err != nil {
		return engineapi.Engine{}, fmt.Errorf("load: no container engine answers at %s: %w\n"+
			"hint: set DOCKER_HOST to the engine's address, or push the image or write it to a file: outputs: type=docker,dest=image.tar",
			host, err)
	}
	return e, nil
}

// loadOutput is the export of an image into an engine.
func (b *run) loadOutput(ctx context.Context, o inputs.Output) (client.ExportEntry, error) {
	e, err := b.connect(ctx, o.Attrs["context"])
	if err != nil {
		return client.ExportEntry{}, err
	}
	entry := client.ExportEntry{Type: o.Type, Attrs: maps.Clone(o.Attrs)}
	delete(entry.Attrs, "context")
	switch {
	case e.Containerd:
		entry.Type, b.indexes = client.ExporterOCI, true
	case len(b.Inputs.Platforms) > 1 || slices.ContainsFunc(b.Inputs.Attests, func(a inputs.Attestation) bool { return !a.InlineOnly() }):
		return client.ExportEntry{}, errors.New("load: this engine takes an image of one platform without attestations\n" +
			"hint: build one platform with provenance: false and sbom: false, or turn on the engine's containerd image store")
	}
	entry.Output = func(map[string]string) (io.WriteCloser, error) { return e.Loading(ctx, &b.loads, b.display), nil }
	return entry, nil
}
