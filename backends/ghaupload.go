package backends

import (
	"errors"
	"fmt"
	"io"

	actionscache "github.com/tonistiigi/go-actions-cache"
)

// chunkSize is that of a request of version 1; it lies in memory, once for each blob under
// way. Version 2 sends blocks of 1 MiB, and keeps its own.
const chunkSize = 8 << 20

// The library would send the chunks of version 1 out of order, each read from the blob
// when it is its turn. A blob that streams through is read in order.
func init() {
	actionscache.UploadConcurrency, actionscache.UploadChunkSize = 1, chunkSize
}

// stream is a blob under way as the library wants one. It can be read in order only, and
// of what was read again only the last chunk: that is what is sent anew when the service
// asks to wait.
type stream struct {
	from  io.Reader
	size  int64
	start int64 // of the chunk
	chunk []byte
}

// Size implements [actionscache.Blob].
func (s *stream) Size() int64 { return s.size }

// Close implements [actionscache.Blob]. The reader belongs to whoever opened it.
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
			return n, fmt.Errorf("read at %d of a stream that is at %d", at, s.start+int64(len(s.chunk)))
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

// fill reads on, for at most n bytes and the end of the chunk. The last of them come only
// when the stream has ended as it should.
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

// atEnd makes sure that a reader has nothing more to say, and no error.
func atEnd(r io.Reader) error {
	n, err := io.ReadFull(r, make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("there is more than was said")
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}
