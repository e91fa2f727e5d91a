package layout

import (
	"encoding/json"
	"errors"
	"fmt"
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

// grace is how long a blob that no scope names is kept. It is longer than any export takes
// from its first blob to its manifest.
const grace = time.Hour

// sweep removes blobs that no scope names, and abandoned uploads, when they are older than
// the grace period. The caller holds the lock.
func (l *Layout) sweep(index ocispecs.Index) error {
	kept, err := l.reachable(index)
	if err != nil {
		return fmt.Errorf("reset %s: %w", l.Dir, err)
	}
	var errs []error
	for _, dir := range []string{filepath.Join(l.Dir, ocispecs.ImageBlobsDir, digest.SHA256.String()), filepath.Join(l.Dir, stagingDir)} {
		entries, err := os.ReadDir(dir)
		errs = append(errs, err)
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() || kept[e.Name()] || time.Since(info.ModTime()) < grace {
				continue
			}
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("reset %s: %w", l.Dir, err)
	}
	return nil
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
