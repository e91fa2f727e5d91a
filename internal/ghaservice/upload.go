package ghaservice

import (
	"errors"
	"fmt"
	"io"

	actionscache "github.com/tonistiigi/go-actions-cache"
)

// chunkSize is the size in bytes of a request of version 1. One chunk of each upload is in
// memory. Version 2 has blocks: see send.
const chunkSize = 8 << 20

// With more than one upload at a time the library would read the chunks of version 1 out of
// order. A stream can only be read in order.
func init() {
	actionscache.UploadConcurrency, actionscache.UploadChunkSize = 1, chunkSize
}

// stream is the library's Blob for a reader. It is read in order; only the last chunk can be
// read again, which the library does when the service limits the rate of requests.
type stream struct {
	from  io.Reader
	size  int64  // of the blob in bytes
	start int64  // offset of the chunk
	chunk []byte // read and kept
}

// Size implements [actionscache.Blob].
func (s *stream) Size() int64 { return s.size }

// Close implements [actionscache.Blob]. It leaves the reader open: its opener closes it.
func (s *stream) Close() error { return nil }

// ReadAt implements [io.ReaderAt].
func (s *stream) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= s.size {
			return n, io.EOF
		}
		if at < s.start || at > s.start+int64(len(s.chunk)) {
			return n, fmt.Errorf("cannot read at offset %d: the stream is at %d", at, s.start+int64(len(s.chunk)))
		}
		if at == s.start+int64(len(s.chunk)) {
			if err := s.fill(len(p) - n); err != nil {
				return n, err
			}
		}
		n += copy(p[n:], s.chunk[at-s.start:])
	}
	return n, nil
}

// fill reads at most n more bytes into the chunk, or up to its end. The blob's last bytes
// are added only when the reader ends after them without an error.
func (s *stream) fill(n int) error {
	if s.chunk == nil || len(s.chunk) == chunkSize {
		s.start += int64(len(s.chunk))
		if s.chunk == nil {
			s.chunk = make([]byte, 0, min(chunkSize, s.size))
		}
		s.chunk = s.chunk[:0]
	}
	had := len(s.chunk)
	left := s.size - s.start - int64(had)
	more := s.chunk[had : had+int(min(int64(n), int64(chunkSize-had), left))]
	if _, err := io.ReadFull(s.from, more); errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	if left == int64(len(more)) {
		if err := atEnd(s.from); err != nil {
			return err
		}
	}
	s.chunk = s.chunk[:had+len(more)]
	return nil
}

// atEnd returns nil when the reader ends here, without further bytes or an error.
func atEnd(r io.Reader) error {
	n, err := io.ReadFull(r, make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("the content is longer than its size says")
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}
