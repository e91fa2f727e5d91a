package builder

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	directoryPattern = "warmlayer-*"
	lockFile         = "lock"

	// maxSocketPath is the longest path of a unix socket: sun_path has 108 bytes, one
	// of them for the final NUL (unix(7)).
	maxSocketPath = 107
	// longestSocket is the longest name of a socket in a private directory.
	longestSocket = "rootlesskit/api.sock"
)

// directory is a private directory with all the files of one daemon. Its lock file
// is locked for as long as the process that made it lives, however it ends.
type directory struct {
	path string
	lock *os.File
}

// newDirectory makes a private directory in parent.
func newDirectory(parent string) (_ *directory, err error) {
	path, err := os.MkdirTemp(parent, directoryPattern)
	if err != nil {
		return nil, &Error{What: "make a private directory", Hint: "set TMPDIR to a directory that you may write to", Err: err}
	}
	defer func() {
		if err != nil {
			os.RemoveAll(path)
		}
	}()
	if n := len(filepath.Join(path, longestSocket)); n > maxSocketPath {
		return nil, &Error{
			What: fmt.Sprintf("%s is too long for a socket: %d bytes, at most %d", parent, len(parent), len(parent)-n+maxSocketPath),
			Hint: "set TMPDIR to a directory with a shorter path",
		}
	}
	for _, name := range []string{"tmp", "run", binfmtDir} {
		if err := os.Mkdir(filepath.Join(path, name), 0o700); err != nil {
			return nil, err
		}
	}
	lock, err := createLock(path)
	if err != nil {
		return nil, err
	}
	return &directory{path: path, lock: lock}, nil
}

// createLock creates a lock file that is locked from the moment it has its name: so
// another process never takes a directory for stale that is only just being made.
func createLock(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, lockFile)
	if err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, lockFile))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// join returns the path of a file in the directory.
func (d *directory) join(name string) string { return filepath.Join(d.path, name) }

// remove removes the directory, the lock last: what could not be removed now stays
// recognisable as stale. Further calls do nothing.
func (d *directory) remove(removeAll func(path string) error) error {
	entries, err := os.ReadDir(d.path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == lockFile {
			continue
		}
		if err := removeAll(d.join(e.Name())); err != nil {
			return err
		}
	}
	err = os.RemoveAll(d.path)
	d.lock.Close()
	return err
}

// sweep removes what processes of this user that were killed have left in parent. It
// is no more than housekeeping: what cannot be removed is left for another time.
func sweep(parent string, removeAll func(path string) error) {
	paths, err := filepath.Glob(filepath.Join(parent, directoryPattern))
	if err != nil {
		return
	}
	for _, path := range paths {
		// Others may write to parent too: nothing of theirs is touched or followed.
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			stale := &directory{path: path, lock: lock}
			unregister(stale)
			_ = stale.remove(removeAll)
		}
		lock.Close()
	}
}

// removeMapped removes a tree in which files belong to this user's subordinate ids:
// nobody but root of a user namespace that maps them may do that.
func removeMapped(rootlesskit string, environ []string, path string) error {
	if err := os.RemoveAll(path); err == nil {
		return nil
	}
	state := path + ".removal"
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, rootlesskit, "--net=host", "--state-dir="+state, "rm", "-rf", path)
	cmd.Dir = "/"
	cmd.Env = daemonEnviron(environ, filepath.Dir(path))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("remove %s: %w: %s", path, err, strings.TrimSpace(string(out)))
	}
	return nil
}
