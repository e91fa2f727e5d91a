package layout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

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
	dir := filepath.Join(l.Dir, stagingDir)
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
	paths, _ := filepath.Glob(filepath.Join(l.Dir, stagingDir, stagingPrefix+"*")) // the pattern is valid
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
