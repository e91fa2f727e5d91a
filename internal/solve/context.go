package solve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"
)

// mounts is where the files come from and go to.
type mounts struct {
	local   map[string]fsutil.FS     // directories that the daemon may read
	layouts map[string]content.Store // OCI layouts that it may, by an ID
	attrs   map[string]string        // the frontend's options that say which
	exports []client.ExportEntry
}

// mounts opens the context, the Dockerfile's directory, the named contexts and the
// outputs. The daemon reads .dockerignore, or <Dockerfile>.dockerignore, itself and asks
// only for what it needs.
func (b *run) mounts(ctx context.Context) (mounts, error) {
	m := mounts{local: map[string]fsutil.FS{}, layouts: map[string]content.Store{}, attrs: map[string]string{}}
	if err := b.addContext(&m); err != nil {
		return m, err
	}
	if err := b.addContexts(&m); err != nil {
		return m, err
	}
	return m, b.addOutputs(ctx, &m)
}

// addContext opens the context and the Dockerfile's directory, as far as they are here.
func (b *run) addContext(m *mounts) error {
	in := b.Inputs
	file := in.File
	if in.Remote {
		m.attrs["context"] = in.Context
		m.gitQuery(in.Context, "")
		if !filepath.IsAbs(file) {
			if file != "" {
				m.attrs["filename"] = file
			}
			return nil
		}
		m.attrs["dockerfilekey"] = "dockerfile"
	} else {
		dir := resolve(in.Dir, in.Context)
		context, err := contextFS(dir, b.Exclude)
		if err != nil {
			return fmt.Errorf("open context %s: %w", dir, err)
		}
		m.local["context"] = context
		if file == "" {
			file = filepath.Join(dir, "Dockerfile")
		}
	}
	file = resolve(in.Dir, file)
	dockerfile, err := fsutil.NewFS(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("open Dockerfile %s: %w", file, err)
	}
	m.local["dockerfile"], m.attrs["filename"] = dockerfile, filepath.Base(file)
	return nil
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
