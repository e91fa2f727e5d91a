package mountpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mount is the directory of a restore.
type mount struct {
	dir  int
	root *os.Root
}

// lockInterval is how often a restore looks whether another one has ended.
const lockInterval = 50 * time.Millisecond

// lock waits until no other restore writes to the mount. The lock ends with the open directory. Another
// build's container sees it too, since the lock is the inode's.
func (m *mount) lock(ctx context.Context) error {
	for {
		err := unix.Flock(m.dir, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			if errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOTSUP) {
				return nil // no locks here; the moves still never mix two restores' files in one directory
			}
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lockInterval):
		}
	}
}

// clean removes what killed restores have left, finishes the moves of one, and returns the names in the
// mount.
func (m *mount) clean() ([]string, error) {
	names, err := readNames(m.dir)
	if err != nil {
		return nil, err
	}
	var others []string
	for _, name := range names {
		switch {
		case !strings.HasPrefix(name, stagingPrefix):
			others = append(others, name)
		case name == readyName:
			if _, err := m.moveReady(); err != nil {
				return nil, err
			}
			others = append(others, name) // the mount has what it had
		default:
			if err := m.root.RemoveAll(name); err != nil {
				return nil, err
			}
		}
	}
	return others, nil
}

// moveReady moves what is in the ready directory to the mount, and removes it. Names that the mount has by
// now, because a step of another build uses it, stay as they are: all tells whether there was none.
func (m *mount) moveReady() (all bool, err error) {
	ready, err := unix.Openat(m.dir, readyName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: readyName, Err: err}
	}
	defer unix.Close(ready)
	names, err := readNames(ready)
	if err != nil {
		return false, err
	}
	all = true
	for _, name := range names {
		err := move(ready, m.dir, name)
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
			all = false
		} else if err != nil {
			return false, &os.PathError{Op: "move", Path: name, Err: err}
		}
	}
	return all, m.root.RemoveAll(readyName)
}

// move moves a name between directories. A directory that its owner may not write to cannot be moved
// without privileges, so it is made writable meanwhile.
func move(from, to int, name string) error {
	err := unix.Renameat2(from, name, to, name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = unix.Renameat(from, name, to, name)
	}
	if !errors.Is(err, unix.EACCES) {
		return err
	}
	var stat unix.Stat_t
	if err := unix.Fstatat(from, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return errors.Join(unix.EACCES, err)
	}
	if err := unix.Fchmodat(from, name, stat.Mode&07777|0o200, 0); err != nil {
		return err
	}
	if err := unix.Renameat(from, name, to, name); err != nil {
		return err
	}
	return unix.Fchmodat(to, name, stat.Mode&07777, 0)
}

// ticks bounds the wait for the file system's clock. A tick of the kernel's is at most 10 ms.
const ticks = 50

// now is a time of the file system's clock after all changes that were made so far, and not after any that
// follows.
func (m *mount) now() (int64, error) {
	first, err := m.tick()
	for range ticks {
		if err != nil {
			return 0, err
		}
		var now int64
		if now, err = m.tick(); now > first {
			return now, err
		}
		time.Sleep(time.Millisecond)
	}
	return first, err // a coarse clock: files of this tick are read once more
}

// tick is the file system's clock: the ctime of a file that is made and removed.
func (m *mount) tick() (int64, error) {
	name := stagingPrefix + "clock-" + fmt.Sprint(os.Getpid())
	fd, err := unix.Openat(m.dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, err
	}
	return stat.Ctim.Nano(), unix.Unlinkat(m.dir, name, 0)
}
