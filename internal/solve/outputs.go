package solve

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/inputs"
)

// addOutputs makes BuildKit's exports from the outputs. It fails unless the engine that an image is
// loaded into answers.
func (b *run) addOutputs(ctx context.Context, m *mounts) error {
	for _, o := range b.Inputs.Outputs {
		entry := client.ExportEntry{Type: o.Type, Attrs: o.Attrs}
		dest := resolve(b.Inputs.Dir, o.Dest)
		switch {
		case b.madeInside(o):
			if entry = b.insideOutput(o); slices.ContainsFunc(m.exports, same(entry)) {
				continue // push and load are one export there
			}
		case o.Type == client.ExporterImage:
		case o.Type == client.ExporterLocal, o.Attrs["tar"] == "false":
			entry.OutputDir = dest
		case o.Dest == "-":
			entry.Output = func(map[string]string) (io.WriteCloser, error) { return nopCloser{b.Stdout}, nil }
		case loads(o):
			var err error
			if entry, err = b.loadOutput(ctx, o); err != nil {
				return err
			}
		default:
			if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
				return fmt.Errorf("make directory of output: %w", err)
			}
			entry.Output = func(map[string]string) (io.WriteCloser, error) { return os.Create(dest) }
		}
		m.exports = append(m.exports, entry)
	}
	return nil
}

// same tells whether an export is like another.
func same(e client.ExportEntry) func(client.ExportEntry) bool {
	return func(other client.ExportEntry) bool { return e.Type == other.Type && maps.Equal(e.Attrs, other.Attrs) }
}

// loads tells whether the output is an image that is loaded into a container engine.
func loads(o inputs.Output) bool { return o.Type == client.ExporterDocker && o.Dest == "" }

// outputs are the exports of the build solve. The image must be what it would have
// been without a cache, cold and warm, so its layers get the image's compression
// before the cache gives the others its own:
//
//   - Where a cache is written but no image is asked for, one is made and left in the
//     daemon; a later build may push its layers.
//   - Where a cache compresses the image's layers too, the image's are compressed again.
func (b *run) outputs(m mounts) []client.ExportEntry {
	out := slices.Clone(m.exports)
	if !holdsImage(b.Inputs.Outputs) && b.Caches.Writes && !b.graphDriver() {
		return append(out, client.ExportEntry{Type: client.ExporterImage, Attrs: map[string]string{}})
	}
	for i, e := range out {
		if _, set := e.Attrs[forceCompression]; !set && b.Caches.Forced && e.Type != client.ExporterLocal && e.Type != client.ExporterTar {
			out[i].Attrs = maps.Clone(e.Attrs)
			out[i].Attrs[forceCompression] = "true"
		}
	}
	return out
}

const forceCompression = "force-compression"

func holdsImage(outputs []inputs.Output) bool {
	return slices.ContainsFunc(outputs, func(o inputs.Output) bool {
		return o.Type == client.ExporterImage || o.Type == client.ExporterOCI || o.Type == client.ExporterDocker
	})
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
