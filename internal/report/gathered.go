package report

import (
	"io"
	"sync"
	"time"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// gathered passes text on in pieces of at least 32 KiB, or what came within 20 milliseconds: BuildKit's
// display writes twice for each line, and each write costs a look for secrets and a system call. The
// writer after it is used by one goroutine at a time.
type gathered struct {
	to io.WriteCloser

	mu    sync.Mutex
	held  []byte
	timer *time.Timer // runs while something is held; nil: nothing was yet
}

const (
	gatherSize = 32 << 10
	gatherFor  = 20 * time.Millisecond // a display that is not a terminal prints ten times a second
)

// Write never fails before something is passed on.
func (g *gathered) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case len(g.held) > 0:
	case g.timer == nil:
		g.timer = time.AfterFunc(gatherFor, func() {
			defer crash.Catch()
			g.late()
		})
	default:
		g.timer.Reset(gatherFor)
	}
	if g.held = append(g.held, p...); len(g.held) < gatherSize {
		return len(p), nil
	}
	return len(p), g.flush()
}

// late passes on what is held. The next write reports an error of the writer after it.
func (g *gathered) late() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.flush()
}

func (g *gathered) flush() error {
	if len(g.held) == 0 {
		return nil
	}
	g.timer.Stop()
	_, err := g.to.Write(g.held)
	g.held = g.held[:0]
	return err
}

// Close passes on what is held, and closes the writer after it.
func (g *gathered) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.flush(); err != nil {
		return err
	}
	return g.to.Close()
}
