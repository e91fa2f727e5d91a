//go:build ignore

package flate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestParallel compares with Go's gzip, byte by byte: content that repeats soon, late and never, in runs that no two
// compressors divide alike, at sizes around those of segments, in writes that end anywhere.
func TestParallel(t *testing.T) {
	t.Parallel()
	const body = 4 * blockSize
	for name, make := range contents {
		for _, size := range []int{0, 1, 3, blockSize - 1, body, body + overlap - 1, body + overlap, body + overlap + 1, 2*body + overlap, 9*body + 12345} {
			for _, write := range []int{0, 1 << 20, blockSize, 512, -1, -300} {
				t.Run(fmt.Sprintf("%s/%d/%d", name, size, write), func(t *testing.T) {
					t.Parallel()
					r := rand.New(rand.NewPCG(uint64(size), uint64(write)))
					same(t, make(r, size), body, DefaultCompression, writes(r, write))
				})
			}
		}
	}
}

// TestParallelLevels compares all levels.
func TestParallelLevels(t *testing.T) {
	t.Parallel()
	const body = 4 * blockSize
	r := rand.New(rand.NewPCG(1, 2))
	for level := 4; level <= 9; level++ {
		for _, make := range contents {
			same(t, make(r, 12*body), body, level, writes(r, 0))
		}
	}
}

// TestParallelWindowMoves: writes end where a compressor's window may move earlier than otherwise, thousands of times.
func TestParallelWindowMoves(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		same(t, contents["text"](r, 40*blockSize), 4*blockSize, 6, func(at int) int {
			near := blockSize - 270 - at%blockSize + r.IntN(272)
			if near <= 0 {
				near += blockSize
			}
			return near
		})
	}
}

func same(t *testing.T, content []byte, body, level int, write func(at int) int) {
	t.Helper()
	var want, got bytes.Buffer
	theirs, err := gzip.NewWriterLevel(&want, level)
	if err != nil {
		t.Fatal(err)
	}
	ours := &gzipWriter{w: &got, level: level, parallel: newParallel(&got, level, body, 3)}
	for at := 0; at < len(content); {
		n := min(len(content)-at, max(1, write(at)))
		for _, w := range []io.Writer{theirs, ours} {
			if _, err := w.Write(content[at : at+n]); err != nil {
				t.Fatal(err)
			}
		}
		at += n
	}
	for _, w := range []io.Closer{theirs, ours} {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		at := 0
		for at < min(got.Len(), want.Len()) && got.Bytes()[at] == want.Bytes()[at] {
			at++
		}
		t.Errorf("%d bytes become %d, not %d, which differ from byte %d on", len(content), got.Len(), want.Len(), at)
	}
}

// writes are sizes of writes: the given one, random ones up to it where it is negative, and all that there is for 0.
func writes(r *rand.Rand, size int) func(int) int {
	return func(int) int {
		switch {
		case size == 0:
			return 1 << 30
		case size == -1:
			return 1 + r.IntN(3*blockSize)
		case size < 0:
			return 1 + r.IntN(-size)
		}
		return size
	}
}

var contents = map[string]func(r *rand.Rand, size int) []byte{
	"noise": func(r *rand.Rand, size int) []byte {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	},
	"zeros": func(_ *rand.Rand, size int) []byte { return make([]byte, size) },
	"runs": func(r *rand.Rand, size int) (b []byte) {
		for len(b) < size {
			b = append(b, bytes.Repeat([]byte{byte(r.IntN(3))}, r.IntN(900))...)
		}
		return b[:size]
	},
	"text": func(r *rand.Rand, size int) (b []byte) {
		words := strings.Fields("layer cache branch scope the a of step build image to warm in registry . , manifest digest\n blob ()")
		for len(b) < size {
			b = append(append(b, words[r.IntN(len(words))]...), ' ')
		}
		return b[:size]
	},
	"mixed": func(r *rand.Rand, size int) (b []byte) {
		for len(b) < size {
			n := r.IntN(60000)
			switch r.IntN(4) {
			case 0:
				b = append(b, make([]byte, n)...)
			case 1:
				for range n {
					b = append(b, byte(r.Uint32()))
				}
			case 2:
				for range n {
					b = append(b, "abcd"[r.IntN(4)])
				}
			default: // what came up to 100 KB before
				from := max(0, len(b)-100_000)
				b = append(b, b[from:min(len(b), from+n)]...)
			}
		}
		return b[:size]
	},
	"far": func(r *rand.Rand, size int) []byte { // repeats at the window's end, and just beyond
		unit := make([]byte, windowSize+r.IntN(3)-1)
		for i := range unit {
			unit[i] = byte(r.Uint32())
		}
		return bytes.Repeat(unit, size/len(unit)+1)[:size]
	},
}

var errFull = errors.New("the disk is full")

// full accepts some bytes.
type full struct{ left int }

func (f *full) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

// TestParallelFails: an error of the writer below ends the stream, at whatever place.
func TestParallelFails(t *testing.T) {
	t.Parallel()
	content := contents["noise"](rand.New(rand.NewPCG(5, 6)), 40*blockSize)
	for _, left := range []int{0, 5, 100_000, 30 * blockSize} {
		w := &full{left}
		z := &gzipWriter{w: w, level: 6, parallel: newParallel(w, 6, 4*blockSize, 3)}
		var err error
		for at := 0; at < len(content) && err == nil; at += blockSize {
			_, err = z.Write(content[at : at+blockSize])
		}
		if closed := z.Close(); !errors.Is(closed, errFull) {
			t.Errorf("%d: Close: %v", left, closed)
		}
		if _, again := z.Write([]byte("x")); !errors.Is(again, errFull) {
			t.Errorf("%d: Write after an error: %v", left, again)
		}
	}
	closed := &gzipWriter{w: io.Discard, level: 6, parallel: newParallel(io.Discard, 6, 4*blockSize, 3)}
	if err := errors.Join(closed.Close(), closed.Close()); err != nil {
		t.Error(err)
	}
	if _, err := closed.Write([]byte("x")); err == nil {
		t.Error("a write after Close")
	}
}

// FuzzParallel compares with Go's gzip: data repeated, in writes of some sizes.
func FuzzParallel(f *testing.F) {
	f.Add([]byte("a layer"), uint16(3000), uint16(700), uint8(6))
	f.Add([]byte{0}, uint16(60000), uint16(32767), uint8(9))
	f.Fuzz(func(t *testing.T, data []byte, times, write uint16, level uint8) {
		if len(data)*int(times) > 40*blockSize {
			return
		}
		same(t, bytes.Repeat(data, int(times)), 4*blockSize, 4+int(level)%6, func(at int) int { return int(write) + at%7 })
	})
}

func BenchmarkParallel(b *testing.B) {
	content := contents["mixed"](rand.New(rand.NewPCG(7, 8)), 100<<20)
	for name, open := range map[string]func() (io.WriteCloser, error){
		"go":   func() (io.WriteCloser, error) { return gzip.NewWriterLevel(io.Discard, 6) },
		"ours": func() (io.WriteCloser, error) { return NewGzipWriter(io.Discard, 6) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				w, err := open()
				if err == nil {
					_, err = io.CopyBuffer(struct{ io.Writer }{w}, bytes.NewReader(content), make([]byte, blockSize))
				}
				if err != nil || w.Close() != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
