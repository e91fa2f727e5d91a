package layout

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/waiting"
)

// Tag is a name in the index, and its manifest.
type Tag struct {
	Name, Version string
	MediaType     string
	Changed       time.Time // when the manifest was written or touched last; zero where its file is missing
}

// Tags are all tags; none where the directory or its index is missing.
func (l *Layout) Tags(ctx context.Context) ([]Tag, error) {
	return waiting.Within(ctx, func() ([]Tag, error) {
		index, err := l.readIndex()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", l.index(), err)
		}
		var all []Tag
		for _, d := range index.Manifests {
			t := Tag{Name: d.Annotations[ocispecs.AnnotationRefName], Version: d.Digest.String(), MediaType: d.MediaType}
			if d.Digest.Validate() == nil {
				if info, err := os.Stat(l.blob(d.Digest)); err == nil {
					t.Changed = info.ModTime()
				}
			}
			all = append(all, t)
		}
		return all, nil
	})
}

// At reads the manifest that a tag had when the tags were listed.
func (l *Layout) At(ctx context.Context, t Tag) (Manifest, error) {
	m, err := waiting.Within(ctx, func() (Manifest, error) {
		return l.document(ocispecs.Descriptor{MediaType: t.MediaType, Digest: digest.Digest(t.Version)})
	})
	if err != nil {
		return Manifest{}, fmt.Errorf("read %s in %s: %w", t.Name, l.Dir, err)
	}
	return m, nil
}

// RemoveTags removes tags whose manifests still have those versions, and returns the tags that are not there any more. Their blobs stay
// until the next sweep.
func (l *Layout) RemoveTags(ctx context.Context, tags []Tag) ([]Tag, error) {
	return waiting.Within(ctx, func() ([]Tag, error) {
		unlock, err := l.lock(ctx)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", l.index(), err)
		}
		defer unlock()
		index, err := l.readIndex()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", l.index(), err)
		}
		wanted := map[string]string{} // versions by name
		for _, t := range tags {
			wanted[t.Name] = t.Version
		}
		kept := map[string]bool{}
		index.Manifests = slices.DeleteFunc(index.Manifests, func(d ocispecs.Descriptor) bool {
			name := d.Annotations[ocispecs.AnnotationRefName]
			gone := wanted[name] == d.Digest.String()
			kept[name] = kept[name] || !gone
			return gone
		})
		if err := l.writeIndex(ctx, index); err != nil {
			return nil, fmt.Errorf("write %s: %w", l.index(), err)
		}
		return slices.DeleteFunc(slices.Clone(tags), func(t Tag) bool { return kept[t.Name] }), nil
	})
}
