package report

import (
	"bytes"
	"io"
)

// Prefix writes what goes through it line by line, each after the same words: "linux/arm64 | ".
// Several may write to one place, and mix whole lines only. It is for one goroutine.
type Prefix struct {
	To   io.Writer
	Each string

	held []byte // the beginning of a line
}

// Write passes whole lines on, and holds back what follows the last of them.
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

// Close writes a last line that was not ended. It does not close To.
func (p *Prefix) Close() error {
	if len(p.held) == 0 {
		return nil
	}
	_, err := p.Write([]byte{'\n'})
	return err
}
