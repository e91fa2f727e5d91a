package mountpack

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// stagingPrefix begins the name of the directory, in the mount, that a restore writes to. What another
// restore has left under such a name is removed, and a save leaves it out.
const stagingPrefix = ".warmlayer-restore-"

// readyName is the staging directory once everything in it is right.
const readyName = stagingPrefix + "ready"

// Restore makes a directory what the index says. Packs are opened in the order of the index, each after
// the one before it was read to its end. A directory that has files is kept as it is, unless the request
// replaces it.
//
// Everything is written to a directory of its own in dir, and is moved when all packs have proved to have
// the bytes that the index names. So after an error dir is as it was, or empty if it was to be replaced;
// ErrDamaged is the error of a damaged pack, ErrTooLarge that of an index beyond the limit. The same holds
// after a kill; what was written then has a name that a save leaves out and the next Restore removes. After
// a kill between the moves, at the very end, the next Restore moves the rest.
func Restore(ctx context.Context, dir string, index *Index, request RestoreRequest, open func(context.Context, Pack) (io.Reader, error)) (RestoreStats, error) {
	stats := RestoreStats{}
	if n, limit := index.Bytes(), maxBytes(request.MaxBytes); n > limit {
		return stats, tooLarge("the index has %d MB, more than the limit of %d MB", n>>20, limit>>20)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return stats, fmt.Errorf("open the mount %s: %w", dir, err)
	}
	defer unix.Close(fd)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return stats, fmt.Errorf("open the mount: %w", err)
	}
	defer root.Close()
	m := &mount{dir: fd, root: root}
	if err := m.lock(ctx); err != nil {
		return stats, fmt.Errorf("wait for another restore of the mount: %w", err)
	}
	old, err := m.clean()
	if err != nil {
		return stats, fmt.Errorf("the mount: %w", err)
	}
	if len(old) > 0 && !request.Replace {
		stats.Kept = true
		return stats, nil
	}
	u := newUnpacking(ctx, index, &stats)
	if err := m.restore(u, old, open); err != nil {
		return stats, fmt.Errorf("restore the mount: %w", err)
	}
	stats.Entries, stats.Bytes = len(index.Entries), index.Bytes()
	return stats, nil
}

// restore makes the entries in a staging directory, and moves them.
func (m *mount) restore(u *unpacking, old []string, open func(context.Context, Pack) (io.Reader, error)) error {
	staging := stagingPrefix + fmt.Sprint(os.Getpid())
	if err := m.root.Mkdir(staging, 0o700); err != nil {
		return err
	}
	defer func() { _ = m.root.RemoveAll(staging) }() // the next restore removes it, otherwise
	fd, err := unix.Openat(m.dir, staging, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := u.unpack(fd, open); err != nil {
		return err
	}
	for _, name := range old {
		if err := m.root.RemoveAll(name); err != nil {
			return err
		}
	}
	if err := m.root.Rename(staging, readyName); err != nil {
		return err
	}
	all, err := m.moveReady()
	if err != nil {
		return err
	}
	if all {
		if u.stats.Clock, err = m.now(); err != nil {
			return err
		}
	}
	return u.attributes(m.dir, ".", &u.index.Entries[0])
}

// unpacking is a restore that writes. Each goroutine has its own.
type unpacking struct {
	ctx    context.Context
	index  *Index
	stats  *RestoreStats
	buffer []byte
	*cursor
}

func newUnpacking(ctx context.Context, index *Index, stats *RestoreStats) *unpacking {
	return &unpacking{ctx: ctx, index: index, stats: stats, buffer: make([]byte, 256<<10)}
}

// begin sets the directory that everything is written to.
func (u *unpacking) begin(staging int) {
	u.cursor = newCursor(staging, func(entry int32) (int32, string) {
		return u.index.Entries[entry].Parent, u.index.Entries[entry].Name
	})
}

// beside is one for another goroutine, with statistics of its own.
func (u *unpacking) beside(ctx context.Context) *unpacking {
	other := newUnpacking(ctx, u.index, &RestoreStats{})
	other.begin(u.path[0].fd)
	return other
}

// unpack makes all entries below a staging directory.
func (u *unpacking) unpack(staging int, open func(context.Context, Pack) (io.Reader, error)) error {
	u.begin(staging)
	defer u.close()
	if err := u.skeleton(); err != nil {
		return err
	}
	if err := u.packs(open); err != nil {
		return err
	}
	return u.finish()
}

// packs writes the contents of all packs.
func (u *unpacking) packs(open func(context.Context, Pack) (io.Reader, error)) (err error) {
	w := startWriters(u)
	defer func() {
		if failed := w.wait(u.stats); err == nil {
			err = failed
		}
	}()
	for i, spans := range u.index.spans() {
		if err := u.pack(u.index.Packs[i], spans, w, open); err != nil {
			return err
		}
	}
	return nil
}

// pack reads one pack to its end, and writes its contents.
func (u *unpacking) pack(p Pack, spans []span, w *writers, open func(context.Context, Pack) (io.Reader, error)) error {
	from, err := open(u.ctx, p)
	if err != nil {
		return err
	}
	r, err := newPackReader(from, p)
	if err != nil {
		return err
	}
	defer r.close()
	for _, s := range spans {
		if err := context.Cause(w.ctx); err != nil {
			return err
		}
		if err := r.skip(s.offset); err != nil {
			return err
		}
		if s.length <= parallelFile && len(s.files) == 1 {
			err = w.add(s.files[0], &u.index.Entries[s.files[0]], r)
		} else {
			err = u.contents(s, r)
		}
		if err != nil {
			return err
		}
	}
	if err := r.end(); err != nil {
		return err
	}
	u.stats.Packs += p.Bytes
	return nil
}
