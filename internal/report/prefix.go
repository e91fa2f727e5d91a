package report

import (
	"bytes"
	"io"
)

// Prefix writes whole lines, each after a prefix such as "linux/arm64 | ". Several of them may
// write to one writer, which then receives whole lines. It is for one goroutine.
type Prefix struct {
	To   io.Writer
	Each string // the prefix

	held []byte // the beginning of a line
}

// Write passes whole lines on, and holds back the text after the last line break.
func (p *Prefix) Write(text []byte) (int, error) {
	p.held = append(p.held, text...)
	end := bytes.LastIndexByte(p.held, '\n') + 1
	if end == 0 {
		return len(text), nil
	}
	var out []byte
	for line := range bytes.Lines(p.held[:end]) {
		out = append(append(out, p.Each...), line...)
	}
	p.held = append(p.held[:0], p.held[end:]...)
	_, err := p.To.Write(out)
	return len(text), err
}

// Close writes the rest of an unfinished last line, with a line break. To stays open.
func (p *Prefix) Close() error {
	if len(p.held) == 0 {
		return nil
	}
	_, err := p.Write([]byte{'\n'})
	return err
}
