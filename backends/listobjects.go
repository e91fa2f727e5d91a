package backends

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/scope"
)

// catalog is a service that lists its objects, and removes many.
type catalog interface {
	// List hands the objects with a prefix to a function, page by page, and ends with its error.
	List(ctx context.Context, prefix string, page func([]storage.Listed) error) error
	// RemoveAll removes objects that were listed, and hands those that are gone to a function.
	RemoveAll(ctx context.Context, objects []storage.Listed, gone func(storage.Listed)) error
}

// marking is a service that cannot tell whether an object is still as it was listed when it removes it.
type marking interface {
	// BeginSweep lets builds know, until end is called, that objects with a prefix are being removed. next is called before each page but the
	// first is listed.
	BeginSweep(ctx context.Context, prefix string) (next func(context.Context) error, end func(), err error)
}

// List implements [Listing].
func (o *objects) List(ctx context.Context, each func(Entry) error) error {
	return o.service.(catalog).List(ctx, o.folder, func(page []storage.Listed) error {
		for _, found := range page {
			if err := each(o.entry(found)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (o *objects) entry(found storage.Listed) Entry {
	e := Entry{Key: strings.TrimPrefix(found.Key, o.folder), Changed: found.Changed, object: found}
	if name, ours := strings.CutPrefix(found.Key, o.manifests); ours && scope.Name(name).Valid() {
		e.Name = scope.Name(name)
	}
	return e
}

// At implements [Listing].
func (o *objects) At(ctx context.Context, e Entry) (Manifest, error) {
	m, err := o.manifest(ctx, e.object.Key)
	if err != nil {
		return Manifest{}, o.fault("read", e.object.Key, err)
	}
	return m, nil
}

// Forget implements [Listing].
func (o *objects) Forget(ctx context.Context, entries []Entry, gone func(Entry)) error {
	byKey, objects := map[string]Entry{}, make([]storage.Listed, len(entries))
	for i, e := range entries {
		byKey[e.object.Key], objects[i] = e, e.object
	}
	return o.service.(catalog).RemoveAll(ctx, objects, func(l storage.Listed) { gone(byKey[l.Key]) })
}

// Sweep implements [Sweeping]. It reads every manifest, marks the blobs that they name, and goes through all blobs. It never
// removes a blob that a build relies on:
//
//   - A build that finds a blob which is older than touch touches it, so that it is young.
//   - A build that finds a younger one writes its manifest within the grace period. When a blob is older than touch and the grace
//     period together, that manifest is there, and it was read, since age counts from before the manifests are read.
//   - A blob that is touched after it was listed is kept by services that compare. With the others, that build waits until the page
//     is done, and looks for the blob once more.
func (o *objects) Sweep(ctx context.Context, s Sweep) (Swept, error) {
	if o.shared != "" {
		return Swept{}, fmt.Errorf("blobs stay: %s", o.shared)
	}
	before := time.Now().Add(-o.touch - s.Grace)
	named, err := o.mark(ctx, s)
	if err != nil {
		return Swept{}, fmt.Errorf("no blob is removed: %w", err)
	}
	next := func(context.Context) error { return nil }
	if m, ok := o.service.(marking); ok && !s.Dry {
		renew, end, err := m.BeginSweep(ctx, o.blobs)
		if err != nil {
			return Swept{}, fmt.Errorf("no blob is removed: %w", err)
		}
		defer end()
		next = renew
	}
	var swept Swept
	service := o.service.(catalog)
	err = service.List(ctx, o.blobs, func(page []storage.Listed) error {
		old := o.unnamed(page, named, before)
		count := func(l storage.Listed) { swept.Blobs, swept.Bytes = swept.Blobs+1, swept.Bytes+l.Size }
		if s.Dry {
			for _, l := range old {
				count(l)
			}
			return nil
		}
		if err := service.RemoveAll(ctx, old, count); err != nil {
			return err
		}
		return next(ctx)
	})
	return swept, err
}

// unnamed are the blobs of a page that no manifest names and that have not changed since a time.
func (o *objects) unnamed(page []storage.Listed, named *storage.Marks, before time.Time) []storage.Listed {
	var old []storage.Listed
	for _, found := range page {
		d, err := digest.Parse(strings.TrimPrefix(found.Key, o.blobs))
		if err == nil && found.Changed.Before(before) && !named.Has(d) {
			old = append(old, found)
		}
	}
	return old
}

// mark reads all manifests but those that count as removed.
func (o *objects) mark(ctx context.Context, s Sweep) (*storage.Marks, error) {
	named := storage.NewMarks()
	eg, egCtx := errgroup.WithContext(ctx)
	eg.SetLimit(storage.RequestsAtOnce)
	err := o.List(ctx, func(e Entry) error {
		if s.Without != nil && s.Without(e) {
			return nil
		}
		eg.Go(func() error {
			defer crash.Catch()
			m, err := o.At(egCtx, e)
			if errors.Is(err, ErrAbsent) {
				return nil // removed since it was listed
			}
			for _, b := range m.Blobs() {
				named.Add(b.Digest)
			}
			return err
		})
		return context.Cause(egCtx)
	})
	if readErr := eg.Wait(); readErr != nil {
		err = readErr
	}
	return named, err
}
