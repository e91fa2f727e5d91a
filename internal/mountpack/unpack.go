package mountpack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// skeleton makes the directories, and everything else that has no content.
func (u *unpacking) skeleton() error {
	for i := 1; i < len(u.index.Entries); i++ {
		e := &u.index.Entries[i]
		if e.Kind == HardLink || e.Kind == File && e.Content.Length > 0 {
			continue
		}
		dir, err := u.dir(e.Parent)
		if err == nil {
			err = u.make(dir, e)
		}
		if err != nil {
			return &os.PathError{Op: "make", Path: e.Name, Err: err}
		}
	}
	return nil
}

// make makes a directory, a link, a pipe, or a file without data.
func (u *unpacking) make(dir int, e *Entry) error {
	switch e.Kind {
	case Dir:
		return unix.Mkdirat(dir, e.Name, 0o700) // its attributes are set when it is complete
	case Symlink:
		if err := unix.Symlinkat(e.Target, dir, e.Name); err != nil {
			return err
		}
	case Fifo:
		if err := unix.Mknodat(dir, e.Name, unix.S_IFIFO|0o600, 0); err != nil {
			u.stats.Fifos++
			return nil
		}
	default:
		return u.file(dir, e, bytes.NewReader(nil))
	}
	return u.attributes(dir, e.Name, e)
}

// contents writes a content to each file that has it.
func (u *unpacking) contents(s span, r *packReader) error {
	first := &u.index.Entries[s.files[0]]
	dir, err := u.dir(first.Parent)
	if err != nil {
		return err
	}
	if err := u.file(dir, first, r); err != nil || len(s.files) == 1 {
		return err
	}
	fd, err := unix.Openat(dir, first.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: first.Name, Err: err}
	}
	written := os.NewFile(uintptr(fd), first.Name)
	defer written.Close()
	for _, i := range s.files[1:] {
		e := &u.index.Entries[i]
		if dir, err = u.dir(e.Parent); err != nil {
			return err
		}
		var parts []io.Reader
		for _, part := range first.extents() {
			parts = append(parts, io.NewSectionReader(written, part.Offset, part.Length))
		}
		if err := u.file(dir, e, io.MultiReader(parts...)); err != nil {
			return err
		}
	}
	return nil
}

// file makes a file with the data that it reads from from.
func (u *unpacking) file(dir int, e *Entry, from io.Reader) error {
	fd, err := unix.Openat(dir, e.Name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "make", Path: e.Name, Err: err}
	}
	f := os.NewFile(uintptr(fd), e.Name)
	defer f.Close()
	for _, extent := range e.extents() {
		if err := u.copy(io.NewOffsetWriter(f, extent.Offset), from, extent.Length); err != nil {
			return err
		}
	}
	if e.Sparse {
		if err := f.Truncate(e.Size); err != nil {
			return err
		}
	}
	return u.attributes(dir, e.Name, e)
}

// copy copies n bytes.
func (u *unpacking) copy(to io.Writer, from io.Reader, n int64) error {
	for n > 0 {
		if err := context.Cause(u.ctx); err != nil {
			return err
		}
		got, err := io.ReadFull(from, u.buffer[:min(n, int64(len(u.buffer)))])
		if err != nil {
			return err
		}
		if _, err := to.Write(u.buffer[:got]); err != nil {
			return err
		}
		n -= int64(got)
	}
	return nil
}

// finish makes the hard links, and gives the directories their attributes: each after what it contains.
func (u *unpacking) finish() error {
	links := newCursor(u.path[0].fd, u.tree)
	defer links.close()
	for i := range u.index.Entries {
		e := &u.index.Entries[i]
		if e.Kind != HardLink {
			continue
		}
		file := &u.index.Entries[e.Link]
		from, err := u.dir(file.Parent)
		if err != nil {
			return err
		}
		to, err := links.dir(e.Parent)
		if err != nil {
			return err
		}
		if err := unix.Linkat(from, file.Name, to, e.Name, 0); err != nil {
			return &os.PathError{Op: "link", Path: e.Name, Err: err}
		}
	}
	for i := len(u.index.Entries) - 1; i > 0; i-- {
		e := &u.index.Entries[i]
		if e.Kind != Dir {
			continue
		}
		dir, err := u.dir(e.Parent)
		if err != nil {
			return err
		}
		if err := u.attributes(dir, e.Name, e); err != nil {
			return err
		}
	}
	return nil
}

// attributes gives an entry its owner, extended attributes, mode and mtime. What this user may not set is
// counted.
func (u *unpacking) attributes(dir int, name string, e *Entry) error {
	a := &u.index.Attrs[e.Attr]
	mode := a.Mode
	if err := unix.Fchownat(dir, name, int(a.UID), int(a.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if !forbidden(err) {
			return &os.PathError{Op: "chown", Path: name, Err: err}
		}
		u.stats.Owners++
		if mode&(unix.S_ISUID|unix.S_ISGID) != 0 && e.Kind != Dir {
			mode &^= unix.S_ISUID | unix.S_ISGID // it would run as someone else
			u.stats.Modes++
		}
	}
	for _, x := range a.Xattrs {
		err := unix.Lsetxattr(procPath(dir, name), x.Name, []byte(x.Value), 0)
		if err != nil && !forbidden(err) && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "set an extended attribute of", Path: name, Err: err}
		}
		if err != nil {
			u.stats.Xattrs++
		}
	}
	if e.Kind != Symlink {
		if err := unix.Fchmodat(dir, name, mode, 0); err != nil {
			if !forbidden(err) {
				return &os.PathError{Op: "chmod", Path: name, Err: err}
			}
			u.stats.Modes++
		}
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(e.Mtime)}
	if err := unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "set the time of", Path: name, Err: err}
	}
	return nil
}

// forbidden tells whether an error means that this user, or a user namespace, may not set an attribute.
func forbidden(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL)
}
