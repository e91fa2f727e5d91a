package report

import (
	"bytes"
	"io"
	"strings"
)

// unerased passes text on without the control sequences that erase a line or its end (ESC [ K, ESC
// [ 2 K), which programs such as grep write. A log has no use for them, and a secret that has one
// in it would be seen only by a reader of the log. It is for one goroutine.
type unerased struct {
	to   io.Writer
	held []byte // the beginning of a sequence
	out  []byte
}

// longestErasure is the length in bytes of the longest sequence that is left out.
const longestErasure = 8

// Write passes p on, except for an end that could be the beginning of a sequence.
func (u *unerased) Write(p []byte) (int, error) {
	if len(u.held) == 0 && bytes.IndexByte(p, '\x1b') < 0 {
		return u.to.Write(p)
	}
	u.out = u.out[:0]
	for i := 0; i < len(p); i++ {
		if len(u.held) == 0 {
			plain := bytes.IndexByte(p[i:], '\x1b')
			if plain < 0 {
				plain = len(p) - i
			}
			u.out = append(u.out, p[i:i+plain]...)
			if i += plain; i == len(p) {
				break
			}
		}
		c := p[i]
		switch n := len(u.held); {
		case n == 1 && c == '[', n > 1 && n < longestErasure-1 && ('0' <= c && c <= '9' || c == ';'):
			u.held = append(u.held, c)
			continue
		case n > 1 && c == 'K':
			u.held = u.held[:0]
			continue
		}
		u.out = append(u.out, u.held...)
		u.held = u.held[:0]
		if c == '\x1b' {
			u.held = append(u.held, c)
		} else {
			u.out = append(u.out, c)
		}
	}
	return len(p), u.flush()
}

// Close passes on what is held back. It does not close to.
func (u *unerased) Close() error {
	u.out = append(u.out[:0], u.held...)
	u.held = u.held[:0]
	return u.flush()
}

func (u *unerased) flush() error {
	if len(u.out) == 0 {
		return nil
	}
	_, err := u.to.Write(u.out)
	return err
}

// withoutErasures is a text without such sequences.
func withoutErasures(text string) string {
	if !strings.Contains(text, "\x1b[") {
		return text
	}
	var b strings.Builder
	u := unerased{to: &b}
	_, _ = u.Write([]byte(text)) // into memory
	_ = u.Close()
	return b.String()
}
