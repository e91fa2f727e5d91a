package mountpack

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// packReader reads the contents of a pack, in the order of their offsets, and proves its digest at the end.
type packReader struct {
	pack    Pack
	from    *verifying
	decoder *zstd.Decoder
	at      int64 // in the uncompressed pack
	buffer  []byte
}

func newPackReader(from io.Reader, p Pack) (*packReader, error) {
	v := &verifying{from: from, sum: newVerifier(), left: p.Bytes}
	decoder, err := zstd.NewReader(v, zstd.WithDecoderMaxWindow(chunkBytes), zstd.WithDecoderConcurrency(2))
	if err != nil {
		return nil, err
	}
	return &packReader{pack: p, from: v, decoder: decoder, buffer: make([]byte, 256<<10)}, nil
}

// close ends the decoder's goroutines. It may be called twice.
func (r *packReader) close() { r.decoder.Close() }

// Read reads on. Its errors are those of the source, or ErrDamaged: also at the end, which is none that a
// content may reach.
func (r *packReader) Read(b []byte) (int, error) {
	n, err := r.decoder.Read(b)
	r.at += int64(n)
	if err == nil || n > 0 {
		return n, nil
	}
	r.close() // the source is read no more
	switch {
	case r.from.err != nil && !errors.Is(r.from.err, io.EOF):
		return 0, r.from.err
	case errors.Is(err, io.EOF):
		return 0, damaged("pack %s ends too early", r.pack.Digest)
	default:
		return 0, damaged("pack %s: %v", r.pack.Digest, err)
	}
}

// skip reads up to an offset.
func (r *packReader) skip(offset int64) error {
	return r.copy(io.Discard, offset-r.at)
}

// copy copies n bytes to a writer. The error tells whether reading or writing failed.
func (r *packReader) copy(to io.Writer, n int64) error {
	for n > 0 {
		got, err := r.Read(r.buffer[:min(n, int64(len(r.buffer)))])
		if err != nil {
			return err
		}
		if _, err := to.Write(r.buffer[:got]); err != nil {
			return err
		}
		n -= int64(got)
	}
	return nil
}

// end reads the rest of the pack's bytes, which no content needs, and is ErrDamaged unless all of them are
// those that the index names.
func (r *packReader) end() error {
	r.close()
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r.from}, r.buffer); err != nil {
		return fmt.Errorf("pack %s: %w", r.pack.Digest, err)
	}
	return r.from.sum.verify(r.pack)
}
