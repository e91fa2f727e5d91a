package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/waiting"
)

// Mend prepares a directory for a writer that keeps every file it finds, as BuildKit's client does
// (v0.34.2, client/solve.go): an index that cannot be parsed is written anew with the entries that
// are whole, and the blobs that the index leads to and whose content is another one are removed. Blobs
// of the right size are read only where they are manifests or among the suspects.
func (l *Layout) Mend(ctx context.Context, suspects []digest.Digest) error {
	_, err := waiting.Within(ctx, func() (struct{}, error) { return struct{}{}, l.mend(ctx, suspects) })
	if err != nil {
		return fmt.Errorf("mend %s: %w", l.Dir, err)
	}
	return nil
}

func (l *Layout) mend(ctx context.Context, suspects []digest.Digest) error {
	index, err := l.readIndex()
	broken, err := brokenIndex(err)
	if err != nil {
		return err
	}
	if damaged := l.damaged(ctx, index, suspects); !broken && len(damaged) == 0 {
		return context.Cause(ctx)
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return fmt.Errorf("lock %s: %w", l.index(), err)
	}
	defer unlock()
	index, err = l.readIndex()
	if broken, err = brokenIndex(err); err != nil {
		return err
	}
	if broken {
		if err := l.writeIndex(ctx, index); err != nil {
			return err
		}
	}
	for _, d := range l.damaged(ctx, index, suspects) {
		if err := os.Remove(l.blob(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return context.Cause(ctx)
}

// brokenIndex reports whether an error is a [damagedIndex], and returns any other.
func brokenIndex(err error) (bool, error) {
	var damaged *damagedIndex
	if errors.As(err, &damaged) {
		return true, nil
	}
	return false, err
}

// damaged are the blobs that the index leads to and whose content is certainly another one than
// their name says.
func (l *Layout) damaged(ctx context.Context, index ocispecs.Index, suspects []digest.Digest) []digest.Digest {
	var found []digest.Digest
	known := map[digest.Digest]bool{}
	for next := slices.Clone(index.Manifests); len(next) > 0 && ctx.Err() == nil; next = next[1:] {
		desc := next[0]
		if desc.Digest.Validate() != nil || known[desc.Digest] {
			continue
		}
		known[desc.Digest] = true
		info, err := os.Stat(l.blob(desc.Digest))
		if err != nil {
			continue
		}
		document := images.IsManifestType(desc.MediaType) || images.IsIndexType(desc.MediaType)
		if (document || info.Size() != desc.Size || slices.Contains(suspects, desc.Digest)) && l.differs(ctx, desc.Digest) {
			found = append(found, desc.Digest)
			continue
		}
		children, _ := l.children(desc) // none where the document cannot be read
		next = append(next, children...)
	}
	return found
}

// differs reports whether a file was read to its end and is not what its name says.
func (l *Layout) differs(ctx context.Context, d digest.Digest) bool {
	f, err := waiting.OpenRegular(l.blob(d))
	if err != nil {
		return false
	}
	defer f.Close()
	verifier := d.Verifier()
	_, err = io.Copy(verifier, waiting.UntilDone(ctx, f))
	return err == nil && !verifier.Verified()
}
