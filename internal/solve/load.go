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
	"github.com/warmlayer/warmlayer/internal/crash"
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
	entry.Output = func(map[string]string) (io.WriteCloser, error) { return b.load(ctx, e), nil }
	return entry, nil
}

// loading is an image that is being loaded into an engine. Close returns when the engine has it.
type loading struct {
	*io.PipeWriter
	done chan struct{}
	err  error // valid when done is closed
}

func (b *run) load(ctx context.Context, e engineapi.Engine) *loading {
	r, w := io.Pipe()
	l := &loading{PipeWriter: w, done: make(chan struct{})}
	b.loads.Go(func() {
		defer crash.Catch()
		defer close(l.done)
		defer context.AfterFunc(ctx, func() {
			defer crash.Catch()
			r.CloseWithError(context.Cause(ctx))
		})()
		if l.err = e.Load(ctx, r, b.display); l.err == nil {
			_, l.err = io.Copy(io.Discard, r) // the data after the end of the archive
		}
		r.CloseWithError(l.err)
	})
	return l
}

func (l *loading) Close() error {
	err := l.PipeWriter.Close()
	<-l.done
	return errors.Join(err, l.err)
}
