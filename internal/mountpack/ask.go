package mountpack

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// Saved is what a save has given.
type Saved struct {
	// Index is the new index, encoded. It needs the packs that Parsed.Packs lists; the new one is the last
	// of them, if Stats.Pack is not 0.
	Index  []byte
	Parsed *Index
	Stats  SaveStats
}

// AskSave has the program in the builder save its mount. stdin and stdout are connected to the program's;
// stdin is closed. previous is the encoded index of the last save that was stored, whether or not it was
// restored into this mount; nil without one.
//
// The new pack is written to pack as it comes; nothing is written when no content is new. What was written
// counts only when the error is nil: then it has the digest that the index names. A cut or damaged stream
// is ErrDamaged, a mount beyond the limit ErrTooLarge; the program's own failure is an error with its text.
// AskSave returns when stdout ends: who ends the program ends it.
func AskSave(stdin io.WriteCloser, stdout io.Reader, r SaveRequest, previous []byte, pack io.Writer) (*Saved, error) {
	asked := make(chan error, 1)
	go func() {
		defer crash.Catch()
		asked <- errors.Join(writeSave(stdin, r, previous), stdin.Close())
	}()
	saved, err := readSaved(stdout, pack)
	if err != nil {
		_ = stdin.Close() // so that the goroutine ends; the answer's error is returned
	}
	if unasked := <-asked; err != nil {
		return nil, errors.Join(err, unasked)
	}
	return saved, nil
}

func writeSave(w io.Writer, r SaveRequest, previous []byte) error {
	f := newFrameWriter(w)
	if err := f.json(frameRequest, r); err != nil {
		return err
	}
	if len(previous) > 0 {
		if err := f.frame(frameIndex, previous); err != nil {
			return err
		}
	}
	return f.end(nil)
}

// readSaved reads the answer to a save.
func readSaved(r io.Reader, pack io.Writer) (*Saved, error) {
	f, got := newFrameReader(r), newVerifier()
	for {
		kind, payload, err := f.next()
		switch {
		case err != nil:
			return nil, err
		case kind == framePack:
			got.add(payload)
			if _, err := pack.Write(payload); err != nil {
				return nil, fmt.Errorf("write the pack: %w", err)
			}
		case kind == framePackEnd:
			return f.saved(got)
		default:
			return nil, damaged("frame %q inside a pack", kind)
		}
	}
}

// saved reads what follows the pack.
func (f *frameReader) saved(got *verifier) (*Saved, error) {
	index, kind, err := f.index()
	if err != nil {
		return nil, err
	}
	s := &Saved{Index: index}
	if err := f.result(kind, &s.Stats); err != nil {
		return nil, err
	}
	if s.Parsed, err = ParseIndex(index); err != nil {
		return nil, err
	}
	if s.Stats.Pack != got.n {
		return nil, damaged("a pack of %d bytes, instead of %d", got.n, s.Stats.Pack)
	}
	if got.n == 0 {
		return s, nil
	}
	if len(s.Parsed.Packs) == 0 {
		return nil, damaged("a pack that the index does not name")
	}
	return s, got.verify(s.Parsed.Packs[len(s.Parsed.Packs)-1])
}

// AskRestore has the program in the builder restore a mount from the encoded index. stdin and stdout are
// as for AskSave. Each pack of the index is opened once, in order, read and closed; none of them after the
// program has answered, as it does at once when the mount has files (RestoreStats.Kept).
//
// When a pack cannot be opened or read, or ctx ends, the error is open's, and the mount stays as it was. So
// it does after every other error, except that a mount to be replaced may be empty.
func AskRestore(ctx context.Context, stdin io.WriteCloser, stdout io.Reader, r RestoreRequest, index []byte, open func(context.Context, Pack) (io.ReadCloser, error)) (RestoreStats, error) {
	parsed, err := ParseIndex(index)
	if err != nil {
		return RestoreStats{}, errors.Join(err, stdin.Close())
	}
	ctx, answered := context.WithCancel(ctx)
	defer answered()
	asked := make(chan error, 1)
	var unread error // why a pack was not read
	go func() {
		defer crash.Catch()
		f := newFrameWriter(stdin)
		err := errors.Join(f.json(frameRequest, r), f.frame(frameIndex, index))
		for _, pack := range parsed.Packs {
			if err == nil {
				err = f.pack(ctx, pack, open, &unread)
			}
		}
		asked <- errors.Join(err, f.end(unread), stdin.Close())
	}()
	stats, err := readRestored(stdout)
	answered()
	_ = stdin.Close() // the program reads no more
	if wrote := <-asked; err != nil {
		return stats, errors.Join(unread, err, wrote)
	}
	return stats, nil
}

// pack copies a pack into frames. unread is set when that is the fault of the pack's source.
func (f *frameWriter) pack(ctx context.Context, p Pack, open func(context.Context, Pack) (io.ReadCloser, error), unread *error) error {
	r, err := open(ctx, p)
	if err != nil {
		*unread = err
		return err
	}
	defer r.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if err := f.frame(framePack, buffer[:n]); err != nil {
				return err
			}
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) {
			return f.frame(framePackEnd, nil)
		}
		if err != nil {
			*unread = err
			return err
		}
	}
}

// readRestored reads the answer to a restore.
func readRestored(r io.Reader) (RestoreStats, error) {
	f := newFrameReader(r)
	stats := RestoreStats{}
	kind, _, err := f.next()
	if err == nil {
		err = f.result(kind, &stats)
	}
	return stats, err
}
