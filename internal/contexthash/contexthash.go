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
	mu   sync.Mutex
	dirs map[string]watched
}

// contents are the files of a directory that were read.
type contents struct {
	mu    sync.Mutex
	known map[string]content // by path
}

// content is what was read of a file, and how the file was then.
type content struct {
	hash     string
	size     int64
	modified int64 // in nanoseconds; 0: not known
}

// New has no directories yet.
func New() *Files { return &Files{dirs: map[string]watched{}} }

// Watch is a directory that is sent by a name. The files that are read of it are hashed. What another Watch has returned is watched
// already: it has the hashes of all who read it.
func (f *Files) Watch(name string, dir fsutil.FS) fsutil.FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	w, ok := dir.(watched)
	if !ok {
		w = watched{FS: dir, contents: &contents{known: map[string]content{}}}
	}
	f.dirs[name] = w
	return w
}

type watched struct {
	fsutil.FS
	contents *contents
}

// Open implements [fsutil.FS].
func (w watched) Open(path string) (io.ReadCloser, error) {
	from, err := w.FS.Open(path)
	if err != nil {
		return nil, err
	}
	r := &hashing{ReadCloser: from, sum: xxhash.New(), path: path, contents: w.contents}
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
	path     string
	contents *contents
}

// Read implements [io.Reader].
func (r *hashing) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	_, _ = r.sum.Write(p[:n])
	r.size += int64(n)
	if err == io.EOF {
		r.contents.keep(r.path, content{cachemiss.Short(r.sum.Sum(nil)), r.size, r.modified})
	}
	return n, err
}

func (c *contents) keep(path string, one content) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[path] = one
}

// Tree is what a directory sends for a request of the builder. Files whose content has not been read yet, or
// has changed since, are read now, for as long as the limit allows; the others have no hash. It is nil where the
// directory cannot be read, or is none of this run.
func (f *Files) Tree(ctx context.Context, of cachemiss.Local, limit time.Duration) cachemiss.Tree {
	f.mu.Lock()
	dir, ok := f.dirs[of.Name]
	f.mu.Unlock()
	if !ok {
		return nil
	}
	sent, err := fsutil.NewFilterFS(dir, &fsutil.FilterOpt{
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
			one.Hash = dir.contents.hash(sent, stat.Linkname, stat, until)
		case mode.IsRegular():
			one.Hash = dir.contents.hash(sent, path, stat, until)
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
func (c *contents) hash(dir fsutil.FS, path string, stat *types.Stat, until time.Time) string {
	read := func() (string, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		one, ok := c.known[path]
		return one.hash, ok && one.size == stat.Size && (one.modified == 0 || one.modified == stat.ModTime)
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
