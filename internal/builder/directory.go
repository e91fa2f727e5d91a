package builder

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/internal/crash"
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

// directory is a private directory with all files of one daemon. The process that made it holds
// the lock on its lock file until it ends, also when it is killed.
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

// createLock creates a lock file that is locked before it gets its name. Otherwise another
// process could take a new directory for a stale one.
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

// remove removes the directory, and the lock last, so that a later [sweep] finds what could not
// be removed. Further calls do nothing.
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

// removeTree is os.RemoveAll that removes the files of a daemon's layers, which are most, with all processors. Their
// place is that of containerd's snapshotters (v2.4, plugins/snapshots/overlay).
func removeTree(path string) error {
	layers, err := filepath.Glob(filepath.Join(path, "*", "snapshots", "snapshots", "*"))
	if err != nil {
		return err
	}
	var all errgroup.Group
	all.SetLimit(runtime.NumCPU())
	for _, layer := range layers {
		all.Go(func() error {
			defer crash.Catch()
			return os.RemoveAll(layer)
		})
	}
	_ = all.Wait() // the same error is the next one's
	return os.RemoveAll(path)
}

// sweep removes the directories that killed processes of this user have left in parent. A later
// sweep tries those again that cannot be removed now.
func sweep(parent string, removeAll func(path string) error) {
	paths, err := filepath.Glob(filepath.Join(parent, directoryPattern))
	if err != nil {
		return
	}
	for _, path := range paths {
		// Other users may write to parent too: their files stay, and links are not followed.
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

// removeMapped removes a tree with files of this user's subordinate ids, which only root of a
// user namespace that maps them may remove.
func removeMapped(rootlesskit string, environ []string, path string) error {
	if err := removeTree(path); err == nil {
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
