package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// abandonAfter is how long an operation may take to notice by itself that its context has ended, and
// to remove what it has begun.
const abandonAfter = 200 * time.Millisecond

// within runs an operation that may block for ever although its context has ended, as one on
// the files of a server that does not answer. Then the operation is abandoned, and the error is
// the cause of ctx's end. Its goroutine ends when the operating system returns, or with the
// process.
func within[T any](ctx context.Context, operation func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	if ctx.Err() != nil {
		return *new(T), context.Cause(ctx)
	}
	done := make(chan result, 1)
	go func() {
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
	case <-time.After(abandonAfter):
		return *new(T), context.Cause(ctx)
	}
}

// openRegular opens a file for reading. A FIFO, a device or a directory is an error, found
// without waiting: to open a FIFO otherwise waits for its writer.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func notRegular(path string) error { return fmt.Errorf("%s is not a regular file", path) }

// readRegular reads a file that openRegular opens.
func readRegular(path string) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// fileBuffer is the number of bytes that are read from a file at once.
const fileBuffer = 256 << 10

// streamed is the content of a file, up to the end of ctx. It owns the file.
func streamed(ctx context.Context, f *os.File) io.ReadCloser {
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer stop()
		// WriterTo of a file and ReaderFrom of a pipe would go around the buffer.
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f}, make([]byte, fileBuffer))
		w.CloseWithError(errors.Join(err, f.Close()))
	}()
	return r
}

// untilDone reads until ctx ends.
func untilDone(ctx context.Context, from io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return from.Read(p)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// stagingDir is the directory for files that are not complete yet. BuildKit's local cache has
// the same, in which each of its own uploads is a directory.
const stagingDir = "ingest"

// stagingPrefix begins the names of Layout's files in it.
const stagingPrefix = "warmlayer-"

// stagingTries bounds how often a file is staged anew because a sweep has taken it.
const stagingTries = 10

// stage creates a file whose lock says that its writer runs. The lock ends with the process,
// however that ends; then removeAbandoned removes the file. Locks hold between containers and,
// where the file system has them, between machines, unlike the number of a process.
func (l *Layout) stage() (*os.File, error) {
	dir := filepath.Join(l.dir, stagingDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for range stagingTries {
		f, err := os.CreateTemp(dir, stagingPrefix)
		if err != nil {
			return nil, err
		}
		// A file system without locks gives another error: such files are removed by their age.
		err = lockNow(f)
		created, statErr := f.Stat()
		named, lstatErr := os.Lstat(f.Name())
		if !errors.Is(err, syscall.EWOULDBLOCK) && statErr == nil && lstatErr == nil && os.SameFile(created, named) {
			return f, nil
		}
		f.Close() // a sweep found the file before it was locked, and removes it
	}
	return nil, fmt.Errorf("%s: other processes remove new files at once", dir)
}

// removeAbandoned removes the files that killed processes have left in the staging directory. A
// later call tries those again that cannot be removed now.
func (l *Layout) removeAbandoned() {
	paths, _ := filepath.Glob(filepath.Join(l.dir, stagingDir, stagingPrefix+"*")) // the pattern is valid
	for _, path := range paths {
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if lockNow(f) == nil {
			_ = os.Remove(path)
		}
		f.Close()
	}
}

// lockNow takes an exclusive lock on a file, or returns EWOULDBLOCK where another process, or
// another open file of this one, has it.
func lockNow(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
