package ci

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Disarmed passes text of a build on to a log, however it is cut into pieces, with the commands
// in it broken that a runner would obey: an untrusted build may have written it.
//
//   - ##vso[ and ##[ anywhere in a line, which Azure's agent obeys, and GitHub's runner
//     the second (src/Runner.Common/ActionCommand.cs in actions/runner);
//   - :: where a line begins, after white space or not: GitHub, Gitea and Forgejo. A carriage
//     return begins a line too.
//
// The first character of a command becomes its escape, as JSON has it, so that JSON stays
// what it is. The work is linear in the text. It is for one goroutine.
type Disarmed struct {
	To io.Writer

	held   []byte // the beginning of what could be a command
	inLine bool   // a line has begun, with more than white space
}

// Write passes p on. It holds back an end that may be the beginning of a command.
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

// commands are what the commands of all CIs begin with.
var commands = [][]byte{[]byte("##["), []byte("##vso["), []byte("::")}

// command tells whether text begins with a command, and whether it could with more text.
func command(text []byte, lineBegins bool) (armed, open bool) {
	for _, begin := range commands {
		switch n := min(len(begin), len(text)); {
		case begin[0] == ':' && !lineBegins, !bytes.Equal(begin[:n], text[:n]):
		case n == len(begin):
			return true, false
		default:
			open = true
		}
	}
	return false, open || !utf8.FullRune(text) // half of what may be white space
}

// Disarm is a text without commands.
func Disarm(text string) string {
	var b strings.Builder
	d := Disarmed{To: &b}
	_, _ = d.Write([]byte(text)) // into memory
	_ = d.Close()
	return b.String()
}
