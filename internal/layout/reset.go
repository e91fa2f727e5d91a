package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/waiting"
)

// grace is how long a reset keeps a blob that no scope names. It is longer than any export takes
// from its first blob to its manifest.
const grace = time.Hour

// Sweep says which files go: those that are older than the grace period and that no tag leads to. Tags that count as removed lead to none;
// nil: no tag counts so. A dry sweep counts and removes nothing.
type Sweep struct {
	Grace   time.Duration
	Dry     bool
	Without func(tag string) bool
}

// Swept is what went.
type Swept struct {
	Files int
	Bytes int64
}

// Sweep removes blobs that no tag leads to, and abandoned uploads. Exports wait for it where they write the index.
func (l *Layout) Sweep(ctx context.Context, s Sweep) (Swept, error) {
	return waiting.Within(ctx, func() (Swept, error) {
		unlock, err := l.lock(ctx)
		if err != nil {
			return Swept{}, fmt.Errorf("lock %s: %w", l.index(), err)
		}
		defer unlock()
		index, err := l.readIndex()
		if err != nil {
			return Swept{}, fmt.Errorf("read %s: %w", l.index(), err)
		}
		return l.sweep(ctx, index, s)
	})
}

// sweep removes what [Layout.Sweep] says. The caller holds the lock.
func (l *Layout) sweep(ctx context.Context, index ocispecs.Index, s Sweep) (Swept, error) {
	if s.Without != nil {
		index.Manifests = slices.DeleteFunc(slices.Clone(index.Manifests), func(d ocispecs.Descriptor) bool {
			return s.Without(d.Annotations[ocispecs.AnnotationRefName])
		})
	}
	kept, err := l.reachable(index)
	if err != nil {
		return Swept{}, fmt.Errorf("sweep %s: %w", l.Dir, err)
	}
	var swept Swept
	old := time.Now().Add(-s.Grace)
	for _, dir := range []string{filepath.Join(l.Dir, ocispecs.ImageBlobsDir, digest.SHA256.String()), filepath.Join(l.Dir, stagingDir)} {
		err := eachFile(ctx, dir, func(info fs.FileInfo) error {
			if kept[info.Name()] || !info.ModTime().Before(old) {
				return nil
			}
			removed := s.Dry
			if !s.Dry {
				var err error
				if removed, err = l.removeOld(filepath.Join(dir, info.Name()), old); err != nil {
					return err
				}
			}
			if removed {
				swept.Files, swept.Bytes = swept.Files+1, swept.Bytes+info.Size()
			}
			return nil
		})
		if err != nil {
			return swept, fmt.Errorf("sweep %s: %w", l.Dir, err)
		}
	}
	return swept, nil
}

// eachFile calls a function for each regular file of a directory, which may be missing, and ends with its error. It reads the directory
// in parts, since there may be very many.
func eachFile(ctx context.Context, dir string, do func(fs.FileInfo) error) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(1000)
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() {
				continue // removed meanwhile, or a directory of BuildKit's own uploads
			}
			if err := errors.Join(context.Cause(ctx), do(info)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// removeOld removes a file unless an export has made it young meanwhile: it takes the file's name away first, and then looks once more. An
// export that looks for the blob in that moment finds none, and writes it.
func (l *Layout) removeOld(path string, old time.Time) (bool, error) {
	aside := filepath.Join(l.Dir, stagingDir, stagingPrefix+"old-"+filepath.Base(path))
	if filepath.Dir(path) == filepath.Dir(aside) {
		aside = path // it has no name that an export looks for
	} else if err := os.MkdirAll(filepath.Dir(aside), 0o755); err != nil {
		return false, err
	} else if err := os.Rename(path, aside); err != nil {
		return false, ignoreAbsent(err)
	}
	info, err := os.Stat(aside)
	if err != nil {
		return false, ignoreAbsent(err)
	}
	if info.ModTime().Before(old) {
		return true, ignoreAbsent(os.Remove(aside))
	}
	if _, err := os.Lstat(path); err == nil || aside == path {
		return false, nil // an export has written it anew
	}
	return false, os.Rename(aside, path)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// reachable is the set of file names of all blobs that the index leads to. It follows indexes
// and images too, because the directory may contain more than caches (as BuildKit v0.34.2,
// client/solve.go, resetCacheStore).
func (l *Layout) reachable(index ocispecs.Index) (map[string]bool, error) {
	kept := map[string]bool{}
	next := slices.Clone(index.Manifests)
	for len(next) > 0 {
		desc := next[0]
		next = next[1:]
		if desc.Digest.Validate() != nil || kept[desc.Digest.Encoded()] {
			continue
		}
		kept[desc.Digest.Encoded()] = true
		children, err := l.children(desc)
		if err != nil {
			return nil, err
		}
		next = append(next, children...)
	}
	return kept, nil
}

// children are the descriptors in a manifest or an index. A missing or damaged document has
// none, for every reader of the directory. Other read errors are returned.
func (l *Layout) children(desc ocispecs.Descriptor) ([]ocispecs.Descriptor, error) {
	if !images.IsManifestType(desc.MediaType) && !images.IsIndexType(desc.MediaType) {
		return nil, nil
	}
	raw, err := waiting.ReadRegular(l.blob(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var doc struct {
		Config    ocispecs.Descriptor   `json:"config"`
		Layers    []ocispecs.Descriptor `json:"layers"`
		Manifests []ocispecs.Descriptor `json:"manifests"`
	}
	if json.Unmarshal(raw, &doc) != nil {
		return nil, nil
	}
	return slices.Concat([]ocispecs.Descriptor{doc.Config}, doc.Layers, doc.Manifests), nil
}
