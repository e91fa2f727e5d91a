package mountpack

import (
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// chunkBytes is how much of a pack is one zstd frame. Frames are compressed beside each other.
const chunkBytes = 4 << 20

// maxWorkers bounds the chunks in memory.
const maxWorkers = 4

// packWriter compresses contents into a pack. One goroutine writes; others compress; one sends.
type packWriter struct {
	encoder *zstd.Encoder
	raw     int64 // bytes written
	chunk   []byte
	free    sync.Pool        // of *[]byte, for chunks and frames
	order   chan chan []byte // the frames, in the order of the chunks
	sent    chan struct{}    // closed when the sender has ended
	sum     *verifier
	err     error // of the sender; read after sent is closed
	failed  chan struct{}
}

func newPackWriter(out io.Writer) (*packWriter, error) {
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(workers), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(chunkBytes))
	if err != nil {
		return nil, err
	}
	p := &packWriter{
		encoder: encoder, sum: newVerifier(),
		order: make(chan chan []byte, workers), sent: make(chan struct{}), failed: make(chan struct{}),
	}
	p.free.New = func() any { b := make([]byte, 0, chunkBytes); return &b }
	go func() {
		defer crash.Catch()
		defer close(p.sent)
		for frame := range p.order {
			p.send(out, <-frame)
		}
	}()
	return p, nil
}

// send writes a frame. After an error it writes nothing more.
func (p *packWriter) send(out io.Writer, frame []byte) {
	if p.err == nil {
		p.sum.add(frame)
		if _, p.err = out.Write(frame); p.err != nil {
			close(p.failed)
		}
	}
	p.free.Put(&frame)
}

// Write adds bytes to the pack. It fails when the pack cannot be written; finish has the reason.
func (p *packWriter) Write(b []byte) (int, error) {
	p.raw += int64(len(b))
	for rest := b; len(rest) > 0; {
		if p.chunk == nil {
			p.chunk = (*p.free.Get().(*[]byte))[:0]
		}
		n := min(len(rest), chunkBytes-len(p.chunk))
		p.chunk = append(p.chunk, rest[:n]...)
		if rest = rest[n:]; len(p.chunk) == chunkBytes {
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(b), nil
}

// flush has the chunk compressed.
func (p *packWriter) flush() error {
	chunk, frame := p.chunk, make(chan []byte, 1)
	p.chunk = nil
	select {
	case p.order <- frame:
	case <-p.failed:
		return io.ErrClosedPipe
	}
	go func() {
		defer crash.Catch()
		frame <- p.encoder.EncodeAll(chunk, (*p.free.Get().(*[]byte))[:0])
		p.free.Put(&chunk)
	}()
	return nil
}

// finish ends the pack, and waits until it is written. It must be called once, after errors too.
func (p *packWriter) finish() (Pack, error) {
	if len(p.chunk) > 0 {
		_ = p.flush() // p.err has the reason
	}
	close(p.order)
	<-p.sent
	return Pack{Digest: p.sum.digest(), Bytes: p.sum.n, Raw: p.raw}, p.err
}
