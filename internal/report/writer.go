package report

import (
	"io"
	"sync"

	"github.com/containerd/console"
)

// Writer hides secrets in everything that is written to it, also secrets that are split
// between calls. It holds back only bytes that could begin a secret, and of a line that has ended
// only what could be base64 that goes on in the next line, so that progress stays live. It may be
// used by several goroutines.
type Writer struct {
	redactor *Redactor

	mu   sync.Mutex
	to   io.Writer
	text stream
	out  []byte
}

// Writer returns a writer that writes to w with secrets hidden.
func (r *Redactor) Writer(w io.Writer) *Writer { return &Writer{redactor: r, to: w} }

// Write passes p on, except for the end that it holds back. It always reports len(p) bytes,
// unless the underlying writer fails.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.pass(w.redactor.scan(&w.text, p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush passes on what is held back. It is called at the end of the text.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.text.restart()
	return w.pass(len(w.text.held))
}

// Close flushes. The underlying writer stays open.
func (w *Writer) Close() error { return w.Flush() }

// pass writes what is held up to end, with its secrets hidden.
func (w *Writer) pass(end int) error {
	w.out = w.text.pass(w.out[:0], end)
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
