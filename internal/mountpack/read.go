package mountpack

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// attempts is how often a file that changes while it is read is read.
const attempts = 3

// errUnstable says that a file vanished, changed at each attempt, or cannot be read.
var errUnstable = errors.New("the file changes while it is read")

// fileReader reads files of a walk. Each goroutine has its own.
type fileReader struct {
	walk   *walk
	cursor *cursor
	buffer []byte
}

func newFileReader(w *walk, root int) *fileReader {
	return &fileReader{walk: w, cursor: newCursor(root, w.parent), buffer: make([]byte, 256<<10)}
}

// read passes the data of a file to each, in parts that are valid during the call; begin is called before
// the first one of every attempt, with what the file then is. The entry gets the size, mtime, extents, and
// the sum and length of the content. like is a file whose extents may be used, or nil. read returns
// errUnstable, or the error of begin or each.
func (r *fileReader) read(entry int32, like *Entry, begin func(*Entry) error, each func([]byte) error) error {
	e := &r.walk.entries[entry]
	for range attempts {
		same, err := r.attempt(e, like, begin, each)
		if err != nil || same {
			return err
		}
	}
	return errUnstable
}

func (r *fileReader) attempt(e *Entry, like *Entry, begin func(*Entry) error, each func([]byte) error) (same bool, err error) {
	f, before, err := r.open(e)
	if err != nil {
		return false, err
	}
	defer f.Close()
	e.Size, e.Mtime = before.Size, before.Mtim.Nano()
	e.Sparse, e.Extents = dataOf(f, before)
	if like != nil && like.Size == e.Size && within(e, like) {
		e.Sparse, e.Extents = like.Sparse, like.Extents
	}
	if err := begin(e); err != nil {
		return false, err
	}
	sum, length := sha256.New(), int64(0)
	for _, extent := range e.extents() {
		part := io.NewSectionReader(f, extent.Offset, extent.Length)
		for {
			n, err := part.Read(r.buffer)
			sum.Write(r.buffer[:n]) // it cannot fail
			if length += int64(n); n > 0 {
				if err := each(r.buffer[:n]); err != nil {
					return false, err
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return false, errUnstable
			}
		}
	}
	e.Content = Content{Length: length}
	copy(e.Content.Sum[:], sum.Sum(nil))
	var after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return false, errUnstable
	}
	want := int64(0)
	for _, extent := range e.extents() {
		want += extent.Length
	}
	return length == want && after.Size == before.Size && after.Mtim == before.Mtim && after.Ctim == before.Ctim, nil
}

// open opens a file, which must be a regular one.
func (r *fileReader) open(e *Entry) (*os.File, *unix.Stat_t, error) {
	dir, err := r.cursor.dir(e.Parent)
	if err != nil {
		return nil, nil, errUnstable
	}
	fd, err := unix.Openat(dir, e.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, errUnstable
	}
	f := os.NewFile(uintptr(fd), e.Name)
	stat := &unix.Stat_t{}
	if err := unix.Fstat(fd, stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, nil, errUnstable
	}
	return f, stat, nil
}

// dataOf are the parts of an open file that have data, if it has holes.
func dataOf(f *os.File, stat *unix.Stat_t) (sparse bool, all []Extent) {
	if stat.Blocks*512 >= stat.Size {
		return false, nil
	}
	for at := int64(0); at < stat.Size; {
		begin, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole until the end
		}
		end := stat.Size
		if err == nil && len(all) < maxExtents-1 {
			end, err = unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
		}
		if err != nil || end <= begin {
			return false, nil // the file system does not tell
		}
		if begin < stat.Size {
			all = append(all, Extent{begin, min(end, stat.Size) - begin})
		}
		at = end
	}
	if len(all) == 1 && all[0].Length == stat.Size {
		return false, nil
	}
	return true, all
}

// within tells whether all data of a file is in the extents of another one of the same size.
func within(e, like *Entry) bool {
	extents := like.extents()
	for _, data := range e.extents() {
		for len(extents) > 0 && extents[0].Offset+extents[0].Length <= data.Offset {
			extents = extents[1:]
		}
		if len(extents) == 0 || data.Offset < extents[0].Offset || data.Offset+data.Length > extents[0].Offset+extents[0].Length {
			return false
		}
	}
	return true
}
