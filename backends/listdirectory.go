package backends

import (
	"context"
	"strings"

	"github.com/warmlayer/warmlayer/internal/layout"
	"github.com/warmlayer/warmlayer/scope"
)

// List implements [Listing]: each tag is a cache.
func (d *directory) List(ctx context.Context, each func(Entry) error) error {
	tags, err := d.Tags(ctx)
	if err != nil {
		return err
	}
	for _, t := range tags {
		e := Entry{Key: t.Name, Changed: t.Changed, tag: t}
		if name, ours := strings.CutPrefix(t.Name, d.prefix); ours && scope.Name(name).Valid() {
			e.Name = scope.Name(name)
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// At implements [Listing].
func (d *directory) At(ctx context.Context, e Entry) (Manifest, error) {
	return parsed(d.Layout.At(ctx, e.tag))
}

// Forget implements [Listing].
func (d *directory) Forget(ctx context.Context, entries []Entry, gone func(Entry)) error {
	byTag, tags := map[string]Entry{}, make([]layout.Tag, len(entries))
	for i, e := range entries {
		tags[i] = e.tag
		byTag[e.Key] = e
	}
	removed, err := d.RemoveTags(ctx, tags)
	for _, t := range removed {
		gone(byTag[t.Name])
	}
	return err
}

// Sweep implements [Sweeping].
func (d *directory) Sweep(ctx context.Context, s Sweep) (Swept, error) {
	by := layout.Sweep{Grace: s.Grace, Dry: s.Dry}
	if s.Without != nil {
		by.Without = func(tag string) bool { return s.Without(Entry{Key: tag}) }
	}
	swept, err := d.Layout.Sweep(ctx, by)
	return Swept{Blobs: swept.Files, Bytes: swept.Bytes}, err
}
