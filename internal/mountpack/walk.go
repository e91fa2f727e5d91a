package mountpack

import (
	"context"
	"encoding/binary"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// state is what a save still has to do for a file's content.
type state uint8

const (
	settled state = iota // its Content is right
	check                // its content may be one of the previous index: read it, and compare the hashes
	store                // its content goes into the new pack
	gone                 // it vanished, or changes all the time: it is left out
)

// status is what a walk knows of an entry beside the Entry.
type status struct {
	state    state
	before   int32 // the entry of the previous index with the same path, or -1
	occupied int64 // bytes of data, about
}

// inode identifies a file with several names.
type inode struct{ device, number uint64 }

// walk finds the entries of a directory.
type walk struct {
	ctx      context.Context
	request  SaveRequest
	previous *Index
	known    map[child]int32 // the previous index by names
	stats    *SaveStats
	entries  []Entry
	status   []status
	attrs    []Attr
	interned map[string]int32
	links    map[inode]int32
}

func newWalk(ctx context.Context, request SaveRequest, previous *Index, stats *SaveStats) *walk {
	return &walk{
		ctx: ctx, request: request, previous: previous, known: previous.children(), stats: stats,
		interned: map[string]int32{}, links: map[inode]int32{},
	}
}

// parent is the tree for a cursor.
func (w *walk) parent(entry int32) (int32, string) {
	return w.entries[entry].Parent, w.entries[entry].Name
}

// root walks all of an open directory.
func (w *walk) root(fd int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	before := int32(-1)
	if len(w.previous.Entries) > 0 {
		before = 0
	}
	w.add(Entry{Kind: Dir, Parent: -1}, &stat, before, procPath(fd, "."))
	return w.dir(fd, 0, 1)
}

// dir walks what an open directory contains.
func (w *walk) dir(fd int, entry int32, depth int) error {
	if depth > maxDepth {
		return tooLarge("it has more than %d directories in each other", maxDepth)
	}
	names, err := readNames(fd)
	if err != nil && entry == 0 {
		return err
	}
	if err != nil {
		w.stats.Unstable++ // it was removed, or is not for this user
	}
	for _, name := range names {
		if entry == 0 && strings.HasPrefix(name, stagingPrefix) {
			continue
		}
		if err := w.name(fd, entry, name, depth); err != nil {
			return err
		}
	}
	return context.Cause(w.ctx)
}

// readNames are the names in a directory, sorted.
func readNames(fd int) ([]string, error) {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "directory", Err: err}
	}
	f := os.NewFile(uintptr(again), "directory")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// name walks one name of a directory. What vanishes, and what the mount's user may not read, is left out.
func (w *walk) name(dir int, parent int32, name string, depth int) error {
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		w.stats.Unstable++
		return nil
	}
	if len(w.entries) >= MaxEntries {
		return tooLarge("it has more than %d files", MaxEntries)
	}
	before := int32(-1)
	if w.status[parent].before >= 0 {
		if i, ok := w.known[child{w.status[parent].before, name}]; ok {
			before = i
		}
	}
	e := Entry{Parent: parent, Name: name}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		w.file(e, &stat, before, procPath(dir, name))
	case unix.S_IFDIR:
		return w.subdirectory(dir, e, &stat, before, depth)
	case unix.S_IFLNK:
		target, err := growing(func(b []byte) (int, error) { return readLink(dir, name, b) })
		if err != nil || len(target) > maxTarget {
			w.stats.Unstable++
			return nil
		}
		e.Kind, e.Target = Symlink, string(target)
		w.add(e, &stat, before, procPath(dir, name))
	case unix.S_IFIFO:
		e.Kind = Fifo
		w.add(e, &stat, before, procPath(dir, name))
	case unix.S_IFSOCK:
		w.stats.Sockets++
	default:
		w.stats.Devices++
	}
	return nil
}

// readLink reads a link's target, with ERANGE where it does not fit.
func readLink(dir int, name string, b []byte) (int, error) {
	n, err := unix.Readlinkat(dir, name, b)
	if err == nil && n == len(b) {
		return 0, unix.ERANGE
	}
	return n, err
}

func (w *walk) subdirectory(dir int, e Entry, stat *unix.Stat_t, before int32, depth int) error {
	fd, err := unix.Openat(dir, e.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		w.stats.Unstable++
		return nil
	}
	defer unix.Close(fd)
	e.Kind = Dir
	entry := w.add(e, stat, before, procPath(dir, e.Name))
	return w.dir(fd, entry, depth+1)
}

// file adds a file, or a hard link to one that was found before.
func (w *walk) file(e Entry, stat *unix.Stat_t, before int32, path string) {
	e.Kind = File
	id := inode{stat.Dev, stat.Ino}
	if first, ok := w.links[id]; ok && stat.Nlink > 1 {
		e.Kind, e.Link = HardLink, first
		w.entries, w.status = append(w.entries, e), append(w.status, status{before: before})
		return
	}
	e.Size = stat.Size
	i := w.add(e, stat, before, path)
	if stat.Nlink > 1 {
		w.links[id] = i
	}
	s := &w.status[i]
	s.occupied = min(stat.Size, stat.Blocks*512)
	s.state = check
	old := w.previousFile(before)
	if old != nil && w.trusted(stat) && old.Size == stat.Size && old.Mtime == stat.Mtim.Nano() {
		s.state = settled
		w.entries[i].Sparse, w.entries[i].Extents, w.entries[i].Content = old.Sparse, old.Extents, old.Content
	}
}

// trusted tells whether nothing of a file has changed since the previous index was restored. Whatever
// changes a file changes its ctime, which no program can set. Times of the same tick of the clock prove
// nothing.
func (w *walk) trusted(stat *unix.Stat_t) bool {
	return w.request.Since > 0 && stat.Ctim.Nano() < w.request.Since
}

// previousFile is the file that an entry of the previous index is or links to, or nil.
func (w *walk) previousFile(before int32) *Entry {
	if before < 0 {
		return nil
	}
	e := &w.previous.Entries[before]
	if e.Kind == HardLink {
		e = &w.previous.Entries[e.Link]
	}
	if e.Kind != File {
		return nil
	}
	return e
}

// add adds an entry with its attributes, and returns its position.
func (w *walk) add(e Entry, stat *unix.Stat_t, before int32, path string) int32 {
	e.Mtime = stat.Mtim.Nano()
	var old *Entry
	if before >= 0 {
		old = &w.previous.Entries[before]
		if old.Kind == HardLink {
			old = w.previousFile(before)
		}
	}
	if old != nil && old.Kind == e.Kind && w.trusted(stat) {
		// The attributes are the previous ones, even where the restore could not set them.
		e.Attr = w.intern(w.previous.Attrs[old.Attr])
	} else {
		a := Attr{Mode: stat.Mode & 07777, UID: stat.Uid, GID: stat.Gid}
		lost := 0
		a.Xattrs, lost = readXattrs(path)
		w.stats.Xattrs += lost
		e.Attr = w.intern(a)
	}
	w.entries, w.status = append(w.entries, e), append(w.status, status{before: before})
	return int32(len(w.entries) - 1)
}

// intern is the position of attributes in the new index.
func (w *walk) intern(a Attr) int32 {
	var key []byte
	for _, v := range []uint32{a.Mode, a.UID, a.GID} {
		key = binary.BigEndian.AppendUint32(key, v)
	}
	for _, x := range a.Xattrs {
		key = appendString(appendString(key, x.Name), x.Value)
	}
	i, ok := w.interned[string(key)]
	if !ok {
		i = int32(len(w.attrs))
		w.attrs = append(w.attrs, a)
		w.interned[string(key)] = i
	}
	return i
}

// limit is ErrTooLarge when the files are too large.
func (w *walk) limit() error {
	total := int64(0)
	for i := range w.status {
		total += w.status[i].occupied
	}
	if limit := maxBytes(w.request.MaxBytes); total > limit {
		return tooLarge("it has %d MB, more than its limit of %d MB", total>>20, limit>>20)
	}
	return nil
}

// maxBytes is a request's limit.
func maxBytes(requested int64) int64 {
	if requested > 0 {
		return requested
	}
	return DefaultMaxBytes
}
