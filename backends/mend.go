package backends

import (
	"context"
	"errors"
	"fmt"
	"io"

	digest "github.com/opencontainers/go-digest"
)

// Mender is a store in which damaged blobs can be replaced. BuildKit's own exporters keep each blob
// that is there, of whatever size.
type Mender interface {
	Scopes
	// Mend removes what is certainly damaged, so that an exporter writes it again. The suspects are
	// blobs that have another size than a manifest says, or that a build could not use.
	Mend(ctx context.Context, suspects []digest.Digest) error
}

// remover is a service whose objects can be removed.
type remover interface {
	// Remove removes an object. It is no error when there is none.
	Remove(ctx context.Context, key string) error
}

// Mend implements [Mender]. What a manifest says may be wrong, so a suspect is removed only after
// its content is compared with its digest. One that cannot be read stays: it may be whole.
func (o *objects) Mend(ctx context.Context, suspects []digest.Digest) error {
	service, ok := o.service.(remover)
	if !ok {
		return nil
	}
	for _, d := range suspects {
		key := o.blobKey(d)
		differs, err := o.differs(ctx, key, d)
		switch {
		case differs:
			err = service.Remove(ctx, key)
		case ctx.Err() == nil:
			continue
		}
		if err != nil {
			return fmt.Errorf("a damaged blob cannot be replaced: %w", o.fault("remove", key, err))
		}
	}
	return nil
}

// differs reports whether an object is there and is not what its digest says.
func (o *objects) differs(ctx context.Context, key string, d digest.Digest) (bool, error) {
	body, err := o.service.Get(ctx, key, 0)
	if errors.Is(err, ErrAbsent) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer body.Close()
	verifier := d.Verifier()
	if _, err := io.Copy(verifier, body); err != nil {
		return false, err
	}
	return !verifier.Verified(), nil
}

// Mend implements [Mender]. It looks at the sizes of the whole directory.
func (d *directory) Mend(ctx context.Context, suspects []digest.Digest) error {
	return d.Layout.Mend(ctx, suspects)
}

// Mend prepares the cache of a plan for BuildKit's own exporter, by what the readings have found in
// it. The readings of other caches are left out. It waits until the blobs are checked.
func Mend(ctx context.Context, store Scopes, readings []Reading, from Backend) error {
	mender, ok := store.(Mender)
	if !ok {
		return nil
	}
	var suspects []digest.Digest
	known := map[digest.Digest]bool{}
	for _, r := range readings {
		if r.From != from {
			continue
		}
		for _, d := range r.suspects() {
			if !known[d] {
				known[d], suspects = true, append(suspects, d)
			}
		}
	}
	return mender.Mend(ctx, suspects)
}
