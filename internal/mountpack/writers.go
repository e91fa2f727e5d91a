package mountpack

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// parallelFile is the largest file that is written beside others. Making a file takes longer than writing
// so much.
const parallelFile = 128 << 10

// writers write small files beside each other, while the pack is read on.
type writers struct {
	group *errgroup.Group
	ctx   context.Context // ends with the first error, which is its cause
	jobs  []chan job      // for each goroutine; a directory's files go to the same one, since making files locks it
	free  sync.Pool       // of *[]byte
	units []*unpacking
}

// job is a small file and its content.
type job struct {
	file    int32
	content *[]byte
}

// startWriters starts goroutines that write below u's staging directory. wait must be called.
func startWriters(u *unpacking) *writers {
	n := min(runtime.GOMAXPROCS(0), maxWorkers)
	w := &writers{}
	w.free.New = func() any { b := make([]byte, parallelFile); return &b }
	w.group, w.ctx = errgroup.WithContext(u.ctx)
	for range n {
		unit := u.beside(w.ctx)
		jobs := make(chan job, 16)
		w.units, w.jobs = append(w.units, unit), append(w.jobs, jobs)
		w.group.Go(func() error {
			defer crash.Catch()
			defer unit.close()
			for j := range jobs {
				if err := w.write(unit, j); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return w
}

func (w *writers) write(u *unpacking, j job) error {
	e := &u.index.Entries[j.file]
	dir, err := u.dir(e.Parent)
	if err != nil {
		return err
	}
	defer w.free.Put(j.content)
	return u.file(dir, e, bytes.NewReader((*j.content)[:e.Content.Length]))
}

// add reads the content of a small file, and has it written.
func (w *writers) add(file int32, e *Entry, from io.Reader) error {
	content := w.free.Get().(*[]byte)
	if _, err := io.ReadFull(from, (*content)[:e.Content.Length]); err != nil {
		return err
	}
	select {
	case w.jobs[int(e.Parent)%len(w.jobs)] <- job{file, content}:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// wait waits until all is written, and adds what the writers could not set to the statistics.
func (w *writers) wait(stats *RestoreStats) error {
	for _, jobs := range w.jobs {
		close(jobs)
	}
	err := w.group.Wait()
	for _, u := range w.units {
		stats.Owners += u.stats.Owners
		stats.Modes += u.stats.Modes
		stats.Xattrs += u.stats.Xattrs
	}
	return err
}
