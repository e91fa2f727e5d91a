package build

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"github.com/warmlayer/warmlayer/inputs"
)

// mounts is where the files come from and go to.
type mounts struct {
	local   map[string]fsutil.FS // directories that the daemon may read
	attrs   map[string]string    // the frontend's options that say which
	exports []client.ExportEntry
}

// mounts opens the context, the Dockerfile's directory and the outputs. The daemon
// reads .dockerignore, or <Dockerfile>.dockerignore, itself and asks only for what it needs.
func (b *run) mounts() (mounts, error) {
	in := b.Inputs
	m := mounts{local: map[string]fsutil.FS{}, attrs: map[string]string{}}
	file := in.File
	if in.Remote {
		m.attrs["context"] = in.Context
		if !filepath.IsAbs(file) {
			if file != "" {
				m.attrs["filename"] = file
			}
			return m, m.addOutputs(in, b.Stdout)
		}
		m.attrs["dockerfilekey"] = "dockerfile"
	} else {
		dir := resolve(in.Dir, in.Context)
		context, err := contextFS(dir, b.Exclude)
		if err != nil {
			return m, fmt.Errorf("open context %s: %w", dir, err)
		}
		m.local["context"] = context
		if file == "" {
			file = filepath.Join(dir, "Dockerfile")
		}
	}
	file = resolve(in.Dir, file)
	dockerfile, err := fsutil.NewFS(filepath.Dir(file))
	if err != nil {
		return m, fmt.Errorf("open Dockerfile %s: %w", file, err)
	}
	m.local["dockerfile"], m.attrs["filename"] = dockerfile, filepath.Base(file)
	return m, m.addOutputs(in, b.Stdout)
}

// contextFS is a directory without those of the excluded ones that lie in it: a
// cache in its own context would change with every build, and never be warm.
func contextFS(dir string, exclude []string) (fsutil.FS, error) {
	context, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, err
	}
	inside := slices.DeleteFunc(slices.Clone(exclude), func(e string) bool {
		rel, err := filepath.Rel(dir, e)
		return err != nil || !filepath.IsLocal(rel) || rel == "."
	})
	if len(inside) == 0 {
		return context, nil
	}
	var patterns []string
	for _, e := range withParents(dir, inside) {
		rel, err := filepath.Rel(dir, e)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, literal.Replace(rel))
	}
	return fsutil.NewFilterFS(context, &fsutil.FilterOpt{ExcludePatterns: patterns})
}

// literal takes their meaning from the characters of a pattern (moby/patternmatcher).
var literal = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `!`, `\!`)

// withParents adds the parents that are there, or will be, only for the sake of what
// is excluded. They would come into the context with the first build.
func withParents(dir string, exclude []string) []string {
	all := slices.Clone(exclude)
	for i := 0; i < len(all); i++ {
		parent := filepath.Dir(all[i])
		entries, err := os.ReadDir(parent)
		others := slices.ContainsFunc(entries, func(e os.DirEntry) bool {
			return !slices.Contains(all, filepath.Join(parent, e.Name()))
		})
		if parent != dir && !others && (err == nil || errors.Is(err, os.ErrNotExist)) && !slices.Contains(all, parent) {
			all = append(all, parent)
		}
	}
	return all
}

// addOutputs turns the outputs into BuildKit's exports.
func (m *mounts) addOutputs(in inputs.Values, stdout io.Writer) error {
	for _, o := range in.Outputs {
		entry := client.ExportEntry{Type: o.Type, Attrs: o.Attrs}
		dest := resolve(in.Dir, o.Dest)
		switch {
		case o.Type == client.ExporterImage:
		case o.Type == client.ExporterLocal, o.Attrs["tar"] == "false":
			entry.OutputDir = dest
		case o.Dest == "-":
			entry.Output = func(map[string]string) (io.WriteCloser, error) { return nopCloser{stdout}, nil }
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

// outputs are the exports of the build solve. The image must be what it would have
// been without a cache, cold and warm, so its layers get the image's compression
// before the cache gives the others its own:
//
//   - Where a cache is written but no image is asked for, one is made and left in the
//     daemon; a later build may push its layers.
//   - Where a cache compresses the image's layers too, the image's are compressed again.
func (b *run) outputs(m mounts) []client.ExportEntry {
	out := slices.Clone(m.exports)
	if !holdsImage(b.Inputs.Outputs) && len(b.Caches.Destinations) > 0 {
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

func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	abs, err := filepath.Abs(filepath.Join(dir, path))
	if err != nil {
		return filepath.Join(dir, path) // without a working directory nothing else works either
	}
	return abs
}
