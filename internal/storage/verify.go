package storage

import (
	"errors"
	"fmt"
	"io"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrMismatch says that content is not what its descriptor says.
var ErrMismatch = errors.New("content does not match")

// Verify reads a blob whose size and digest are those of the descriptor. Other content
// ends in an [ErrMismatch], before its last bytes are returned: a reader to the end, or of the
// descriptor's size, gets the right content or an error. An empty blob is verified at its end.
func Verify(from io.Reader, desc ocispecs.Descriptor) io.Reader {
	return &verified{from: from, desc: desc, verifier: desc.Digest.Verifier()}
}

type verified struct {
	from     io.Reader
	desc     ocispecs.Descriptor
	verifier digest.Verifier
	read     int64
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.from.Read(p)
	v.read += int64(n)
	_, _ = v.verifier.Write(p[:n]) // a hash never fails
	switch {
	case v.read > v.desc.Size:
		return 0, v.mismatch()
	case v.read < v.desc.Size && errors.Is(err, io.EOF):
		return n, v.mismatch()
	case v.read == v.desc.Size && (n > 0 || errors.Is(err, io.EOF)) && !v.verifier.Verified():
		return 0, v.mismatch()
	}
	return n, err
}

func (v *verified) mismatch() error {
	return fmt.Errorf("%w %s of %d bytes", ErrMismatch, v.desc.Digest, v.desc.Size)
}
