package report

import (
	"io"
	"sync"

	"github.com/containerd/console"
)

// Writer hides secrets in everything that is written to it, also secrets that are split
// between calls. It holds back only bytes that could begin a secret, and none of a line that
// has ended, so that progress stays live. It may be used by several goroutines.
type Writer struct {
	redactor *Redactor

	mu      sync.Mutex
	to      io.Writer
	held    []byte
	covered int // bytes of held that belong to a mask that was already written
	out     []byte
}

// Writer returns a writer that writes to w with secrets hidden.
func (r *Redactor) Writer(w io.Writer) *Writer { return &Writer{redactor: r, to: w} }

// Write passes p on, except for the end that it holds back. It always reports len(p) bytes,
// unless the underlying writer fails.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := p
	if len(w.held) > 0 {
		w.held = append(w.held, p...)
		text = w.held
	}
	spans, open := w.redactor.scan(text)
	if err := w.pass(text, spans, open); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush passes on what is held back. It is called at the end of the text.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == 0 {
		return nil
	}
	spans, _ := w.redactor.scan(w.held)
	return w.pass(w.held, spans, len(w.held))
}

// Close flushes. The underlying writer stays open.
func (w *Writer) Close() error { return w.Flush() }

// pass writes text up to end and holds the rest.
func (w *Writer) pass(text []byte, spans []span, end int) error {
	covered := w.covered
	w.out, w.covered = masked(w.out[:0], text, spans, covered, end)
	w.held = append(w.held[:0], text[end:]...)
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.to.Write(w.out)
	return err
}

// Terminal is a [Writer] that is also a console.File. BuildKit's progress display needs one,
// to find out the terminal's size.
type Terminal struct {
	*Writer
	file console.File
}

var _ console.File = (*Terminal)(nil)

// Terminal returns a writer that writes to f with secrets hidden. f may be any file. Closing
// the Terminal flushes it; f stays open.
func (r *Redactor) Terminal(f console.File) *Terminal {
	return &Terminal{Writer: r.Writer(f), file: f}
}

// Read reads from the file.
func (t *Terminal) Read(p []byte) (int, error) { return t.file.Read(p) }

// Fd is the file's descriptor.
func (t *Terminal) Fd() uintptr { return t.file.Fd() }

// Name is the file's name.
func (t *Terminal) Name() string { return t.file.Name() }
