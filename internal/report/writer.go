package report

import (
	"io"
	"sync"

	"github.com/containerd/console"
)

// Writer hides secrets in all that is written through it, however it is cut into
// pieces. It holds back only bytes that could be the beginning of a secret, never past
// the end of a line, so progress stays live. It may be used from several goroutines.
type Writer struct {
	redactor *Redactor

	mu      sync.Mutex
	to      io.Writer
	held    []byte
	covered int // bytes of held that lie under a mask already shown
	out     []byte
}

// Writer returns a writer that hides secrets in what it passes on to w.
func (r *Redactor) Writer(w io.Writer) *Writer { return &Writer{redactor: r, to: w} }

// Write passes p on, but for an end that is held back.
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

// Flush passes on what is held back: nothing follows that would make it a secret.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == 0 {
		return nil
	}
	spans, _ := w.redactor.scan(w.held)
	return w.pass(w.held, spans, len(w.held))
}

// Close flushes. It does not close what it writes to.
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

// Terminal is a [Writer] that is still the file it writes to, as BuildKit's progress
// display wants it: it looks for a console.File, and asks that for the terminal's size.
type Terminal struct {
	*Writer
	file console.File
}

var _ console.File = (*Terminal)(nil)

// Terminal returns a writer that hides secrets in what it passes on to f, which need
// not be a terminal. Closing it flushes, and leaves f open.
func (r *Redactor) Terminal(f console.File) *Terminal {
	return &Terminal{Writer: r.Writer(f), file: f}
}

// Read reads from the file.
func (t *Terminal) Read(p []byte) (int, error) { return t.file.Read(p) }

// Fd is the file's descriptor.
func (t *Terminal) Fd() uintptr { return t.file.Fd() }

// Name is the file's name.
func (t *Terminal) Name() string { return t.file.Name() }
