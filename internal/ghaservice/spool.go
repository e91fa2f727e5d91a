package ghaservice

import (
	"io"
	"os"
)

// spooled is a blob in a temporary file without a name, which the system removes when the process
// ends. It implements the library's Blob, unless err is set.
type spooled struct {
	*os.File
	size int64
	err  error // why the file does not hold everything that was written
}

// spool reads a body to its end, and keeps it. The error is the body's.
func spool(body io.Reader) (*spooled, error) {
	file, err := os.CreateTemp("", "warmlayer-blob-*")
	if err != nil {
		return &spooled{err: err}, drain(body)
	}
	s := &spooled{File: file, err: os.Remove(file.Name())}
	if _, err := io.Copy(writer{s}, body); err != nil {
		file.Close()
		return nil, err
	}
	return s, nil
}

// drain reads a body to its end.
func drain(body io.Reader) error {
	if body == nil {
		return nil
	}
	_, err := io.Copy(io.Discard, body)
	return err
}

// writer writes to a spooled blob until that fails, and never fails itself.
type writer struct{ to *spooled }

// Write implements [io.Writer].
func (w writer) Write(p []byte) (int, error) {
	if w.to.err == nil {
		_, w.to.err = w.to.Write(p)
		w.to.size += int64(len(p))
	}
	return len(p), nil
}

// Size implements [actionscache.Blob].
func (s *spooled) Size() int64 { return s.size }

// Close implements [io.Closer].
func (s *spooled) Close() error {
	if s.File == nil {
		return nil
	}
	return s.File.Close()
}
