package mountpack

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// cursor opens the directories of a tree by single names below the one that is open, and follows no link:
// nothing outside the tree is ever opened. It keeps the last directory and those around it open.
type cursor struct {
	tree func(entry int32) (parent int32, name string)
	path []opened // the root first
}

type opened struct {
	entry int32
	fd    int
}

// newCursor begins at an open directory, which stays open when the cursor is closed.
func newCursor(root int, tree func(int32) (int32, string)) *cursor {
	return &cursor{tree: tree, path: []opened{{0, root}}}
}

// dir is the open directory of an entry, valid until the next call.
func (c *cursor) dir(entry int32) (int, error) {
	var below []int32 // from entry up, the directories that are not open
	for entry > 0 && !slices.ContainsFunc(c.path, func(o opened) bool { return o.entry == entry }) {
		below = append(below, entry)
		entry, _ = c.tree(entry)
	}
	for c.path[len(c.path)-1].entry != max(entry, 0) {
		c.up()
	}
	for _, entry := range slices.Backward(below) {
		_, name := c.tree(entry)
		fd, err := unix.Openat(c.path[len(c.path)-1].fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, &os.PathError{Op: "open", Path: name, Err: err}
		}
		c.path = append(c.path, opened{entry, fd})
	}
	return c.path[len(c.path)-1].fd, nil
}

func (c *cursor) up() {
	last := len(c.path) - 1
	_ = unix.Close(c.path[last].fd) // it was only read
	c.path = c.path[:last]
}

func (c *cursor) close() {
	for len(c.path) > 1 {
		c.up()
	}
}

// procPath names a file in an open directory, for system calls that take only paths.
func procPath(dir int, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
}

// hostsXattr tells whether an extended attribute belongs to the machine and not to the mount: a label of
// the machine's policy, or a mark of an overlay.
func hostsXattr(name string) bool {
	return name == "security.selinux" || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// readXattrs reads the extended attributes of a file or a link, and tells how many it could not read.
func readXattrs(path string) (all []Xattr, lost int) {
	names, err := growing(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if err != nil {
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOENT) {
			return nil, 0
		}
		return nil, 1
	}
	total := 0
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if name == "" || hostsXattr(name) {
			continue
		}
		value, err := growing(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if total += len(name) + len(value); err != nil || total > maxXattrs {
			lost++
			continue
		}
		all = append(all, Xattr{name, string(value)})
	}
	slices.SortFunc(all, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return all, lost
}

// growing calls a system call that fills a buffer, until the buffer is large enough.
func growing(fill func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		b := make([]byte, size)
		n, err := fill(b)
		if err == nil {
			return b[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size > 1<<20 {
			return nil, err
		}
	}
}
