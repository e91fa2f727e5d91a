package mountpack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
)

// verifier sums the bytes of a pack.
type verifier struct {
	hash hash.Hash
	n    int64
}

func newVerifier() *verifier { return &verifier{hash: sha256.New()} }

// add adds bytes.
func (v *verifier) add(b []byte) {
	v.hash.Write(b) // it cannot fail
	v.n += int64(len(b))
}

func (v *verifier) digest() digest.Digest {
	return digest.NewDigestFromBytes(digest.SHA256, v.hash.Sum(nil))
}

// verify is ErrDamaged when the bytes are not those of the pack.
func (v *verifier) verify(p Pack) error {
	sum, err := hex.DecodeString(p.Digest.Encoded())
	if err != nil || v.n != p.Bytes || !bytes.Equal(sum, v.hash.Sum(nil)) {
		return damaged("pack %s has other bytes: %d of %d, with another digest", p.Digest, v.n, p.Bytes)
	}
	return nil
}

// verifying is a reader of a pack that sums what it reads, and reads no more than the pack has.
type verifying struct {
	from io.Reader
	sum  *verifier
	left int64
	err  error // the last error, or io.EOF
}

func (v *verifying) Read(b []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	var beyond [1]byte
	if v.left <= 0 {
		b = beyond[:] // the pack's end has to be read, too
	}
	n, err := v.from.Read(b[:min(int64(len(b)), max(v.left, 1))])
	if n > 0 && v.left <= 0 {
		n, err = 0, damaged("a pack is longer than the index says")
	}
	v.sum.add(b[:n])
	v.left -= int64(n)
	v.err = err
	return n, err
}
