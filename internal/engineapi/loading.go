package engineapi

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// loading is an archive that is being loaded into an engine.
type loading struct {
	*io.PipeWriter
	done chan struct{}
	err  error // valid when done is closed
}

// Loading loads the archive that is written to it. Close returns when the engine has the image. The work ends with running, and what
// the engine says is shown.
func (e Engine) Loading(ctx context.Context, running *sync.WaitGroup, show chan<- *client.SolveStatus) io.WriteCloser {
	r, w := io.Pipe()
	l := &loading{PipeWriter: w, done: make(chan struct{})}
	running.Go(func() {
		defer crash.Catch()
		defer close(l.done)
		defer context.AfterFunc(ctx, func() {
			defer crash.Catch()
			r.CloseWithError(context.Cause(ctx))
		})()
		if l.err = e.Load(ctx, r, show); l.err == nil {
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
