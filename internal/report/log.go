package report

import (
	"errors"
	"io"

	"github.com/containerd/console"

	"github.com/warmlayer/warmlayer/internal/ci"
)

// Log returns the writer for all text that goes to a job's log w: it hides secrets, and breaks what
// a runner would obey or a terminal would act on. Closing it leaves w open.
func (r *Redactor) Log(w io.Writer) io.WriteCloser {
	disarmed := &ci.Disarmed{To: w}
	redacted := r.Writer(disarmed)
	return log{&unerased{to: redacted}, redacted, disarmed}
}

type log struct {
	*unerased
	redacted *Writer
	disarmed *ci.Disarmed
}

func (l log) Close() error {
	return errors.Join(l.unerased.Close(), l.redacted.Close(), l.disarmed.Close())
}

// Text is one text as it stands in a job's log.
func (r *Redactor) Text(text string) string { return ci.Disarm(r.String(withoutErasures(text))) }

// Progress is [Redactor.Log] for a display that writes little at a time: text comes out up to 20
// milliseconds later. What the display is given has gone through [Redactor.Log] already, but a line of the
// display may join what a step wrote to its standard output and to its standard error, each harmless by
// itself.
func (r *Redactor) Progress(w io.Writer) io.WriteCloser { return &gathered{to: r.Log(w)} }

// Display returns the writer for a progress display, which moves the cursor where f is a terminal.
// What the display is given must have gone through [Redactor.Log] already. Closing it leaves f open.
func (r *Redactor) Display(f console.File) io.WriteCloser {
	if _, err := console.ConsoleFromFile(f); err == nil {
		return r.Terminal(f)
	}
	return r.Progress(f)
}
