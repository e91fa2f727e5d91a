package engineapi

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// loading is an image that is being loaded into an engine.
type loading struct {
	*io.PipeWriter
	done chan struct{}
	err  error // valid when done is closed
}

// Loading is a writer for an archive, which the engine loads. Its Close returns when the engine has the image. What
// is done for it is among those that run.
func (e Engine) Loading(ctx context.Context, running *sync.WaitGroup, d Display) io.WriteCloser {
	r, w := io.Pipe()
	l := &loading{PipeWriter: w, done: make(chan struct{})}
	running.Go(func() {
		defer crash.Catch()
		defer close(l.done)
		defer context.AfterFunc(ctx, func() {
			defer crash.Catch()
			r.CloseWithError(context.Cause(ctx))
		})()
		if l.err = e.load(ctx, r, d); l.err == nil {
			_, l.err = io.Copy(io.Discard, r) // the data after the end of the archive
		}
		r.CloseWithError(l.err)
	})
	return l
}

func (l *loading) Close() error {
	err := l.PipeWriter.Close()
	<-l.done
	return errors.Join(err, l.err)
}
