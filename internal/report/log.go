package report

import (
	"errors"
	"io"
	"strings"

	"github.com/warmlayer/warmlayer/internal/ci"
)

// Log returns a writer that hides secrets in the text of a build that goes to the log w, and
// where the CI obeys commands, breaks those. Closing it leaves w open.
func (r *Redactor) Log(d ci.Dialect, w io.Writer) io.WriteCloser {
	if !d.Obeys() {
		return r.Writer(w)
	}
	disarmed := &ci.Disarmed{To: w}
	return log{r.Writer(disarmed), disarmed}
}

type log struct {
	*Writer
	disarmed *ci.Disarmed
}

func (l log) Close() error { return errors.Join(l.Writer.Close(), l.disarmed.Close()) }

// SecretLines are the lines of secrets that are long enough to be hidden.
func SecretLines(secrets []string) []string {
	var lines []string
	for _, secret := range secrets {
		for line := range strings.FieldsFuncSeq(secret, func(c rune) bool { return c == '\n' || c == '\r' }) {
			if line = strings.TrimSpace(line); len(line) >= shortest {
				lines = append(lines, line)
			}
		}
	}
	return lines
}
