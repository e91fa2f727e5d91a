package mountpack

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
)

// A stream between the run and the program in the builder is streamMagic and then frames: a byte for the
// kind, the payload's length (four bytes, big endian) and the payload, of at most maxFrame. A stream
// without its last frame (frameEnd or frameFailure) is cut.
const (
	streamMagic = "wlmounts1\n"
	maxFrame    = 256 << 10
)

// The kinds of frames. A save is asked with request, index…, end; the answer is pack…, index…, result,
// end. A restore is asked with request, index…, (pack…, packEnd) for each pack, end; the answer is result,
// end. Each side may end with a failure instead.
const (
	frameRequest = 'r' // JSON: SaveRequest or RestoreRequest
	frameIndex   = 'i' // the next part of an encoded index
	framePack    = 'p' // the next part of a pack
	framePackEnd = 'n'
	frameResult  = 's' // JSON: SaveStats or RestoreStats
	frameEnd     = 'e'
	frameFailure = 'x' // JSON: failure
)

// failure is why the other side could not go on.
type failure struct {
	Message  string `json:"message"`
	Damaged  bool   `json:"damaged,omitempty"`
	TooLarge bool   `json:"tooLarge,omitempty"`
}

// reported is the failure that the other side reported. It is ErrDamaged or ErrTooLarge where that was.
type reported failure

func (r *reported) Error() string { return r.Message }

func (r *reported) Is(target error) bool {
	return target == ErrDamaged && r.Damaged || target == ErrTooLarge && r.TooLarge
}

// frameWriter writes frames. It is no concern of two goroutines at once.
type frameWriter struct {
	w     *bufio.Writer
	begun bool
}

func newFrameWriter(w io.Writer) *frameWriter {
	return &frameWriter{w: bufio.NewWriterSize(w, 64<<10)}
}

// frame writes one frame, or several of the kind for a longer payload.
func (f *frameWriter) frame(kind byte, payload []byte) error {
	if !f.begun {
		f.begun = true
		if _, err := f.w.WriteString(streamMagic); err != nil {
			return err
		}
	}
	for {
		part := payload[:min(len(payload), maxFrame)]
		header := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(part)))
		if _, err := f.w.Write(header); err != nil {
			return err
		}
		if _, err := f.w.Write(part); err != nil {
			return err
		}
		if payload = payload[len(part):]; len(payload) == 0 {
			return nil
		}
	}
}

// json writes a frame with a value.
func (f *frameWriter) json(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.frame(kind, b)
}

// end writes the last frame. After an error that is a failure, with the error's text.
func (f *frameWriter) end(err error) error {
	if err != nil {
		err = f.json(frameFailure, failure{err.Error(), errors.Is(err, ErrDamaged), errors.Is(err, ErrTooLarge)})
	} else {
		err = f.frame(frameEnd, nil)
	}
	return errors.Join(err, f.w.Flush())
}

// frames is a writer of frames of one kind.
type frames struct {
	to   *frameWriter
	kind byte
}

func (f frames) Write(b []byte) (int, error) {
	if err := f.to.frame(f.kind, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// frameReader reads frames.
type frameReader struct {
	r       *bufio.Reader
	begun   bool
	payload [maxFrame]byte
	current []byte // the payload of the last frame
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next is the next frame; its payload is valid until the next call. A failure of the other side is the
// error. A stream that is cut, or is none, is ErrDamaged.
func (f *frameReader) next() (kind byte, payload []byte, err error) {
	if !f.begun {
		magic := f.payload[:len(streamMagic)]
		if _, err := io.ReadFull(f.r, magic); err != nil {
			return 0, nil, cut(err)
		}
		if string(magic) != streamMagic {
			return 0, nil, damaged("no stream of the program for cache mounts: it begins with %q", magic)
		}
		f.begun = true
	}
	var header [5]byte
	if _, err := io.ReadFull(f.r, header[:]); err != nil {
		return 0, nil, cut(err)
	}
	n := binary.BigEndian.Uint32(header[1:])
	if n > maxFrame {
		return 0, nil, damaged("a frame of %d bytes", n)
	}
	payload = f.payload[:n]
	f.current = payload
	if _, err := io.ReadFull(f.r, payload); err != nil {
		return 0, nil, cut(err)
	}
	if header[0] != frameFailure {
		return header[0], payload, nil
	}
	r := &reported{}
	if err := json.Unmarshal(payload, (*failure)(r)); err != nil {
		return 0, nil, damaged("a failure: %v", err)
	}
	return 0, nil, r
}

// cut is the error of a stream that ends too early.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("the stream is cut")
	}
	return err
}

// request reads a request and the index after it, and returns the frame behind them.
func (f *frameReader) request(v any) (index []byte, next byte, err error) {
	kind, payload, err := f.next()
	if err != nil {
		return nil, 0, err
	}
	if kind != frameRequest {
		return nil, 0, damaged("frame %q, where the request is expected", kind)
	}
	if err := json.Unmarshal(payload, v); err != nil {
		return nil, 0, damaged("the request: %v", err)
	}
	return f.index()
}

// index reads an index, and returns the kind of the frame behind it. That frame's payload must be read no
// more.
func (f *frameReader) index() (index []byte, next byte, err error) {
	var all bytes.Buffer
	for {
		kind, payload, err := f.next()
		if err != nil || kind != frameIndex {
			return all.Bytes(), kind, err
		}
		if all.Len()+len(payload) > MaxIndexBytes {
			return nil, 0, damaged("the index is too large")
		}
		all.Write(payload)
	}
}

// result parses the result, which is the current frame, and reads the end behind it.
func (f *frameReader) result(kind byte, v any) error {
	if kind != frameResult {
		return damaged("frame %q, where the result is expected", kind)
	}
	if err := json.Unmarshal(f.current, v); err != nil {
		return damaged("the result: %v", err)
	}
	kind, _, err := f.next()
	if err == nil && kind != frameEnd {
		err = damaged("frame %q behind the result", kind)
	}
	return err
}
