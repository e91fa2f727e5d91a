package report

import (
	"bytes"
	"io"
)

// longestLine is the length in bytes after which a [Prefix] breaks a line.
const longestLine = 64 << 10

// Prefix writes whole lines, each after a prefix such as "linux/arm64 | ". Several of them may
// write to one writer, which then receives whole lines. Lines of more than 64 KiB are broken. The
// work is linear in the text. It is for one goroutine.
type Prefix struct {
	To   io.Writer
	Each string // the prefix

	held []byte // the beginning of a line
}

// Write passes whole lines on, and holds back the text after the last line break.
func (p *Prefix) Write(text []byte) (int, error) {
	var out []byte
	for line := range bytes.Lines(text) {
		for len(p.held)+len(line) > longestLine {
			n := longestLine - len(p.held)
			out = p.line(out, line[:n])
			out = append(out, '\n')
			line = line[n:]
		}
		if len(line) > 0 && line[len(line)-1] == '\n' {
			out = p.line(out, line)
		} else {
			p.held = append(p.held, line...)
		}
	}
	if len(out) == 0 {
		return len(text), nil
	}
	_, err := p.To.Write(out)
	return len(text), err
}

// line appends a line with what is held of it.
func (p *Prefix) line(out, rest []byte) []byte {
	out = append(append(append(out, p.Each...), p.held...), rest...)
	p.held = p.held[:0]
	return out
}

// Close writes the rest of an unfinished last line, with a line break. To stays open.
func (p *Prefix) Close() error {
	if len(p.held) == 0 {
		return nil
	}
	_, err := p.Write([]byte{'\n'})
	return err
}
