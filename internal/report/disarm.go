package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Obeys tells whether the runner of a CI, named as in scope.Facts, does what commands in
// the log say, whoever wrote them there.
func Obeys(ci string) bool {
	return slices.Contains([]string{"github", "gitea", "forgejo", "azure"}, ci)
}

// Log returns a writer that hides secrets in what a build says to the log w, and where the
// CI obeys commands, breaks those. Closing it leaves w open.
func (r *Redactor) Log(ci string, w io.Writer) io.WriteCloser {
	if !Obeys(ci) {
		return r.Writer(w)
	}
	d := &Disarmed{To: w}
	return log{r.Writer(d), d}
}

type log struct {
	*Writer
	disarmed *Disarmed
}

func (l log) Close() error { return errors.Join(l.Writer.Close(), l.disarmed.Close()) }

// Disarmed passes a build's own words on to a log, however they are cut into pieces, with
// the commands in them broken that a runner would obey: a step's output may be a stranger's.
//
//   - ##vso[ and ##[ anywhere in a line, which Azure's agent obeys, and GitHub's runner
//     the second (src/Runner.Common/ActionCommand.cs in actions/runner);
//   - :: where a line begins, after white space or not: GitHub, Gitea and Forgejo. A carriage
//     return begins one too.
//
// The first character of a command becomes its escape, as JSON has it, so that JSON stays
// what it is. It is for one goroutine.
type Disarmed struct {
	To io.Writer

	held   []byte // the beginning of what could be a command
	inLine bool   // a line has begun, with more than white space
}

// Write passes p on, but for an end that could be the beginning of a command.
func (d *Disarmed) Write(p []byte) (int, error) {
	d.held = append(d.held, p...)
	return len(p), d.pass(false)
}

// Close passes on what is held back. It does not close To.
func (d *Disarmed) Close() error { return d.pass(true) }

// pass writes what is held up to what may still become a command, or all of it.
func (d *Disarmed) pass(all bool) error {
	var out []byte
	text := d.held
	for len(text) > 0 {
		armed, open := command(text, !d.inLine)
		if open && !all {
			break
		}
		c, size := utf8.DecodeRune(text)
		d.inLine = c != '\n' && c != '\r' && (d.inLine || !unicode.IsSpace(c))
		if armed {
			out = fmt.Appendf(out, `\u%04x`, c)
		} else {
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	d.held = append(d.held[:0], text...)
	_, err := d.To.Write(out)
	return err
}

// command tells whether text begins with one, and whether it could once there is more of it.
func command(text []byte, lineBegins bool) (armed, open bool) {
	for _, begin := range []string{"##[", "##vso[", "::"} {
		switch {
		case begin == "::" && !lineBegins:
		case bytes.HasPrefix(text, []byte(begin)):
			return true, false
		case strings.HasPrefix(begin, string(text)):
			open = true
		}
	}
	return false, open || !utf8.FullRune(text) // half of what may be white space
}

// disarm is a text without commands.
func disarm(text string) string {
	var b strings.Builder
	d := Disarmed{To: &b}
	_, _ = d.Write([]byte(text)) // into memory
	_ = d.Close()
	return b.String()
}
