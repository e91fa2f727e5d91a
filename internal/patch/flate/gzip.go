//go:build ignore

package flate

import (
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"io"
	"runtime"
)

// maxAhead bounds the memory of a stream: a segment has up to 2 MiB of content, and 8 MiB of tokens where nothing repeats.
const maxAhead = 8

// NewGzipWriter is a gzip writer that makes the bytes of Go's compress/gzip, with all processors. Its writes to w are
// those of Write and Close, in their goroutine. Levels which do not put every position into the hash chains, and a machine
// with one processor, get Go's writer itself.
func NewGzipWriter(w io.Writer, level int) (io.WriteCloser, error) {
	ahead := min(runtime.GOMAXPROCS(0), maxAhead)
	if level != DefaultCompression && (level < 4 || level > 9) || ahead == 1 {
		return gzip.NewWriterLevel(w, level)
	}
	return &gzipWriter{w: w, level: level, parallel: newParallel(w, level, 2<<20, ahead+1)}, nil
}

type gzipWriter struct {
	w        io.Writer
	level    int
	parallel *parallel
	begun    bool
	closed   bool
	sum      uint32
	size     uint32 // modulo 2^32
	err      error
}

// begin writes the header of RFC 1952, as compress/gzip does without a name and a time.
func (z *gzipWriter) begin() {
	if z.begun {
		return
	}
	z.begun = true
	header := [10]byte{0: 0x1f, 1: 0x8b, 2: 8, 9: 255}
	if z.level == BestCompression {
		header[8] = 2
	}
	_, z.err = z.w.Write(header[:])
}

// Write implements [io.Writer].
func (z *gzipWriter) Write(b []byte) (int, error) {
	if z.closed && z.err == nil {
		return 0, errWriterClosed
	}
	if z.begin(); z.err != nil {
		return 0, z.err
	}
	z.size += uint32(len(b))
	z.sum = crc32.Update(z.sum, crc32.IEEETable, b)
	if z.err = z.parallel.write(b); z.err != nil {
		return 0, z.err
	}
	return len(b), nil
}

// Close implements [io.Closer]. It does not close the writer below.
func (z *gzipWriter) Close() error {
	if z.closed || z.err != nil {
		return z.err
	}
	z.closed = true
	if z.begin(); z.err != nil {
		return z.err
	}
	if z.err = z.parallel.close(); z.err != nil {
		return z.err
	}
	_, z.err = z.w.Write(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, z.sum), z.size))
	return z.err
}
