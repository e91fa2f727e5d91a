// Package waiting ends what may block for ever, such as an operation on the files of a server that
// does not answer, together with its context.
//
//	content, err := waiting.Within(ctx, func() ([]byte, error) { return waiting.ReadRegular("index.json") })
package waiting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// abandonAfter is how long an operation may take to notice by itself that its context has ended, and
// to remove what it has begun.
const abandonAfter = 200 * time.Millisecond

// Within runs an operation that may block for ever although its context has ended, as one on
// the files of a server that does not answer. Then the operation is abandoned, and the error is
// the cause of ctx's end. Its goroutine ends when the operating system returns, or with the
// process.
func Within[T any](ctx context.Context, operation func() (T, error)) (T, error) {
	if ctx.Err() != nil {
		return *new(T), context.Cause(ctx)
	}
	return Patiently(ctx, abandonAfter, operation)
}

// Patiently runs an operation, also when ctx has ended before. It is abandoned, as by [Within], when
// it takes longer than patience to notice that ctx has ended.
func Patiently[T any](ctx context.Context, patience time.Duration, operation func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer crash.Catch()
		value, err := operation()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-time.After(patience):
		return *new(T), context.Cause(ctx)
	}
}

// OpenRegular opens a file for reading. A FIFO, a device or a directory is an error, found
// without waiting: to open a FIFO otherwise waits for its writer.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = NotRegular(path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// NotRegular is the error for a file that is not a regular one.
func NotRegular(path string) error { return fmt.Errorf("%s is not a regular file", path) }

// ReadRegular reads a file that OpenRegular opens.
func ReadRegular(path string) ([]byte, error) {
	f, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, Largest+1))
	if err == nil && len(content) > Largest {
		return content[:Largest], fmt.Errorf("%s: %w", path, ErrTooLarge)
	}
	return content, err
}

// Largest is how many bytes of a file [ReadRegular] reads at most: the documents of caches are smaller.
const Largest = 16 << 20

// ErrTooLarge says that a file has more than [Largest] bytes.
var ErrTooLarge = errors.New("the file is too large")

// fileBuffer is the number of bytes that are read from a file at once.
const fileBuffer = 256 << 10

// Streamed is the content of a file, up to the end of ctx. It owns the file.
func Streamed(ctx context.Context, f *os.File) io.ReadCloser {
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() {
		defer crash.Catch()
		w.CloseWithError(context.Cause(ctx))
	})
	go func() {
		defer crash.Catch()
		defer stop()
		// WriterTo of a file and ReaderFrom of a pipe would go around the buffer.
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f}, make([]byte, fileBuffer))
		w.CloseWithError(errors.Join(err, f.Close()))
	}()
	return r
}

// UntilDone reads until ctx ends.
func UntilDone(ctx context.Context, from io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return from.Read(p)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
