// Package contexthash hashes the files of build contexts while they are sent.
//
//	files := contexthash.New()
//	context = files.Watch("context", context) // is sent to the builder
//	tree := files.Tree(ctx, cachemiss.Local{Name: "context"}, limit)
//
// A builder asks for the content of the files that it does not have, which on an empty one are all. They are hashed as
// they are read, so that no file is read twice and nothing waits for it.
package contexthash

import (
	"context"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/warmlayer/warmlayer/internal/cachemiss"
)

// Files are the directories that one run sends. It may be used by several goroutines.
type Files struct {
	mu    sync.Mutex
	dirs  map[string]fsutil.FS
	known map[file]content
}

type file struct{ dir, path string }

// content is what was read of a file, and how the file was then.
type content struct {
	hash     string
	size     int64
	modified int64 // in nanoseconds; 0: not known
}

// New has no directories yet.
func New() *Files { return &Files{dirs: map[string]fsutil.FS{}, known: map[file]content{}} }

// Watch is a directory that is sent by a name. The files that are read of it are hashed.
func (f *Files) Watch(name string, dir fsutil.FS) fsutil.FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirs[name] = dir
	return watched{FS: dir, name: name, files: f}
}

type watched struct {
	fsutil.FS
	name  string
	files *Files
}

// Open implements [fsutil.FS].
func (w watched) Open(path string) (io.ReadCloser, error) {
	from, err := w.FS.Open(path)
	if err != nil {
		return nil, err
	}
	r := &hashing{ReadCloser: from, sum: xxhash.New(), file: file{w.name, path}, files: w.files}
	if s, ok := from.(interface{ Stat() (fs.FileInfo, error) }); ok {
		if info, err := s.Stat(); err == nil {
			r.modified = info.ModTime().UnixNano()
		}
	}
	return r, nil
}

// hashing is a file that is hashed while it is read.
type hashing struct {
	io.ReadCloser
	sum      *xxhash.Digest
	size     int64
	modified int64
	file     file
	files    *Files
}

// Read implements [io.Reader].
func (r *hashing) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	_, _ = r.sum.Write(p[:n])
	r.size += int64(n)
	if err == io.EOF {
		r.files.keep(r.file, content{cachemiss.Short(r.sum.Sum(nil)), r.size, r.modified})
	}
	return n, err
}

func (f *Files) keep(name file, c content) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[name] = c
}

// Tree is what a directory sends for a request of the builder. Files whose content has not been read yet, or
// has changed since, are read now, for as long as the limit allows; the others have no hash. It is nil where the
// directory cannot be read, or is none of this run.
func (f *Files) Tree(ctx context.Context, of cachemiss.Local, limit time.Duration) cachemiss.Tree {
	f.mu.Lock()
	dir := f.dirs[of.Name]
	f.mu.Unlock()
	if dir == nil {
		return nil
	}
	sent, err := fsutil.NewFilterFS(watched{FS: dir, name: of.Name, files: f}, &fsutil.FilterOpt{
		IncludePatterns: of.Include, ExcludePatterns: of.Exclude, FollowPaths: of.Follow,
	})
	if err != nil {
		return nil
	}
	var tree cachemiss.Tree
	until := time.Now().Add(limit)
	err = sent.Walk(ctx, "", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*types.Stat)
		if !ok {
			return nil
		}
		mode := fs.FileMode(stat.Mode)
		one := cachemiss.Entry{Path: path, Mode: mode}
		switch {
		case mode&fs.ModeSymlink != 0:
			one.Hash = cachemiss.Hash(stat.Linkname)
		case mode.IsRegular() && stat.Linkname != "": // another name of a file that was sent before
			one.Hash = f.hash(sent, of.Name, stat.Linkname, stat, until)
		case mode.IsRegular():
			one.Hash = f.hash(sent, of.Name, path, stat, until)
		}
		tree = append(tree, one)
		return nil
	})
	if err != nil {
		return nil
	}
	return tree
}

// hash is that of a file, which is read where that is needed and there is time; "": it is not known.
func (f *Files) hash(dir fsutil.FS, name, path string, stat *types.Stat, until time.Time) string {
	key := file{name, path}
	read := func() (string, bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		c, ok := f.known[key]
		return c.hash, ok && c.size == stat.Size && (c.modified == 0 || c.modified == stat.ModTime)
	}
	if hash, ok := read(); ok {
		return hash
	}
	if time.Now().After(until) {
		return ""
	}
	from, err := dir.Open(path)
	if err != nil {
		return ""
	}
	_, err = io.Copy(io.Discard, from)
	_ = from.Close() // nothing was written
	if err != nil {
		return ""
	}
	hash, _ := read()
	return hash
}
