package solve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/moby/api/types/jsonstream"
	engineclient "github.com/moby/moby/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/crash"
)

// engine is a container engine that has answered.
type engine struct {
	*engineclient.Client
	// indexes tells whether the engine's images are in containerd's store, which accepts an index,
	// and uses the digest of the manifest as an image's ID (docker buildx v0.37.0,
	// util/dockerutil).
	indexes bool
	show    chan<- *client.SolveStatus
}

// connectTimeout bounds the wait for an engine's first answer; it may be behind ssh.
const connectTimeout = 20 * time.Second

// connect finds out whether the engine answers, and what kind of store it has.
func (b *run) connect(ctx context.Context, name string) (*engine, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c, host, err := b.Engine.Client(name)
	if err != nil {
		return nil, fmt.Errorf("load: %w\n"+
			"hint: docker context ls lists the contexts; an engine without one is named by DOCKER_HOST, its certificates by DOCKER_CERT_PATH", err)
	}
	e := &engine{Client: c, show: b.display}
	info, err := e.Info(ctx, engineclient.InfoOptions{})
	if err != nil {
		return nil, fmt.Errorf("load: no container engine answers at %s: %w\n"+
			"hint: set DOCKER_HOST to the engine's address, or push the image or write it to a file: outputs: type=docker,dest=image.tar",
			host, err)
	}
	e.indexes = slices.Contains(info.Info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"})
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
	case e.indexes:
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

func (b *run) load(ctx context.Context, e *engine) *loading {
	r, w := io.Pipe()
	l := &loading{PipeWriter: w, done: make(chan struct{})}
	b.loads.Go(func() {
		defer crash.Catch()
		defer close(l.done)
		defer context.AfterFunc(ctx, func() {
			defer crash.Catch()
			r.CloseWithError(context.Cause(ctx))
		})()
		if l.err = e.load(ctx, r); l.err == nil {
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

// load sends an archive to the engine, and shows the engine's progress.
func (e *engine) load(ctx context.Context, archive io.Reader) error {
	// The HTTP client would close a pipe when the engine stops reading, before the reason is known.
	result, err := e.ImageLoad(ctx, struct{ io.Reader }{archive})
	if err != nil {
		return fmt.Errorf("load image into engine: %w", err)
	}
	defer result.Close()
	vertex := client.Vertex{Digest: digest.FromString(identity.NewID()), Name: "importing to docker", Started: now()}
	e.show <- &client.SolveStatus{Vertexes: []*client.Vertex{&vertex}}
	err = e.progress(result, vertex.Digest)
	ended := vertex
	ended.Completed = now()
	if err != nil {
		err = fmt.Errorf("load image into engine: %w", err)
		ended.Error = err.Error()
	}
	e.show <- &client.SolveStatus{Vertexes: []*client.Vertex{&ended}}
	return err
}

// progress reads the engine's messages, which say how much of each layer it has unpacked, to their
// end. Only the first and the last message of each layer are shown.
func (e *engine) progress(messages io.Reader, vertex digest.Digest) error {
	layers := map[string]*client.VertexStatus{}
	var failure error
	for d := json.NewDecoder(messages); ; {
		var m jsonstream.Message
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return errors.Join(failure, err)
		}
		if m.Error != nil {
			failure = m.Error
		}
		if m.ID == "" || m.Progress == nil {
			continue
		}
		layer := layers[m.ID]
		if layer == nil {
			layer = &client.VertexStatus{ID: "loading layer " + m.ID, Vertex: vertex, Started: now()}
			layers[m.ID] = layer
			e.status(*layer)
		}
		layer.Current, layer.Total = m.Progress.Current, m.Progress.Total
	}
	for _, layer := range layers {
		layer.Completed = now()
		e.status(*layer)
	}
	return failure
}

func (e *engine) status(s client.VertexStatus) {
	s.Timestamp = time.Now()
	e.show <- &client.SolveStatus{Statuses: []*client.VertexStatus{&s}}
}

func now() *time.Time {
	t := time.Now()
	return &t
}
