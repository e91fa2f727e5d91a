package step

import (
	"fmt"
	"io"
)

// log is the writer for text in the job's log. Everything but commands to the CI goes through it
// or, where it shows progress, through the writer of the display. It is standard error, because
// standard output may be an archive.
func (r Run) log() io.WriteCloser { return r.host.Redactor.Log(r.host.Stderr) }

// say writes a line of text to the log.
func (r Run) say(text string) {
	out := r.log()
	fmt.Fprintln(out, text)
	_ = out.Close() // there is no other place for the error
}

// command writes the program's own commands to the CI, in whole lines. The texts in them are
// redacted already; only masks hold secrets, and the runner removes these from the log.
func (r Run) command(lines string) error {
	_, err := io.WriteString(r.host.Stderr, lines)
	return err
}
