package solve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/staticfs"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/warmlayer/warmlayer/inputs"
)

// mounts are the sources and destinations of a build's files.
type mounts struct {
	local    map[string]fsutil.FS     // directories that the daemon may read
	files    map[string]fsutil.FS     // those, and the ones that shared sessions send
	paths    map[string]string        // of those that are directories here
	sessions map[string]string        // ids of the shared sessions, by what they send
	layouts  map[string]content.Store // OCI layouts that it may read, by an ID
	attrs    map[string]string        // the frontend's options with the names of these
	exports  []client.ExportEntry
}

// mounts opens the context, the Dockerfile's directory, the named contexts and the outputs.
// The daemon reads .dockerignore or <Dockerfile>.dockerignore, and asks for the files that it
// needs.
func (b *run) mounts(ctx context.Context) (mounts, error) {
	m := mounts{local: map[string]fsutil.FS{}, paths: map[string]string{}, sessions: map[string]string{}, layouts: map[string]content.Store{}, attrs: map[string]string{}}
	if err := b.addContext(&m); err != nil {
		return m, err
	}
	if err := b.addContexts(&m); err != nil {
		return m, err
	}
	for name, files := range m.local {
		m.local[name] = b.recall.files.Watch(name, files)
	}
	if err := b.share(&m); err != nil {
		return m, err
	}
	m.files = m.local
	return m, b.addOutputs(ctx, &m)
}

// addContext opens the context, if it is on this machine, and the Dockerfile.
func (b *run) addContext(m *mounts) error {
	context := b.Inputs.Context
	if context.Remote() {
		m.attrs["context"] = context.Source
		m.gitQuery(context, "")
		return m.addDockerfile(b.Inputs.Dockerfile, true)
	}
	files, err := contextFS(context.Dir, b.Exclude)
	if err != nil {
		return fmt.Errorf("open context %s: %w", context.Dir, err)
	}
	m.local["context"], m.paths["context"] = files, context.Dir
	return m.addDockerfile(b.Inputs.Dockerfile, false)
}

// addDockerfile opens the directory of a Dockerfile on this machine. One from standard input gets
// its own directory in memory; docker buildx makes one on disk.
func (m *mounts) addDockerfile(d inputs.Dockerfile, remoteContext bool) error {
	m.attrs["filename"] = d.Filename()
	if d.InContext != "" {
		return nil
	}
	const name = "dockerfile" // the frontend's name for the directory
	if remoteContext {
		m.attrs["dockerfilekey"] = name
	}
	if d.Path == "" {
		files := staticfs.NewFS()
		files.Add(d.Filename(), &types.Stat{Mode: 0o644, ModTime: time.Now().UnixNano()}, d.Text)
		m.local[name] = files
		return nil
	}
	files, err := fsutil.NewFS(filepath.Dir(d.Path))
	if err != nil {
		return fmt.Errorf("open Dockerfile %s: %w", d.Path, err)
	}
	m.local[name], m.paths[name] = files, filepath.Dir(d.Path)
	return nil
}

// contextFS is a directory without the excluded ones in it. A cache inside its own context would
// change the context with every build, so no step would be cached.
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

// literal escapes the characters that have a meaning in a pattern (moby/patternmatcher).
var literal = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `!`, `\!`)

// withParents adds the parents that contain, or will contain, only excluded directories. The first
// build would otherwise add these parents to the context.
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

func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	abs, err := filepath.Abs(filepath.Join(dir, path))
	if err != nil {
		return filepath.Join(dir, path) // without a working directory no file can be found anyway
	}
	return abs
}
