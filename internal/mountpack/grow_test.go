package mountpack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// day is some time.
var day = time.Unix(1_700_000_000, 123_456_789)

func sumOf(b []byte) [sha256.Size]byte { return sha256.Sum256(b) }

// grower makes random files in a directory, and changes them.
type grower struct {
	t *testing.T
	*rand.Rand
	dir string
	n   int
}

func (g *grower) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// directories are those in the mount, and the mount itself.
func (g *grower) directories() (all []string) {
	g.must(filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		return err
	}))
	return all
}

// files are the regular files in the mount.
func (g *grower) files() (all []string) {
	g.must(filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all = append(all, path)
		}
		return err
	}))
	return all
}

func pick[T any](g *grower, all []T) T { return all[g.IntN(len(all))] }

// content is random: empty, small or large, some of it compressible, some of it as before.
func (g *grower) content() []byte {
	size := pick(g, []int{0, 1, 100, 4096, 70_000, 100_000, 1<<20 + 1})
	b := make([]byte, size)
	for i := 0; i < size; i += 1 + g.IntN(200) {
		b[i] = byte(g.Uint32())
	}
	if g.IntN(6) == 0 {
		b = bytes.Repeat([]byte("the same "), 50)
	}
	return b
}

var names = []string{"a", "b c", "…", "-rf", "new\nline", "\xff\xfe", "..x", ".hidden", "x"}

func (g *grower) grow(n int) {
	for range n {
		g.add()
	}
	g.times()
}

// add adds one file of any kind.
func (g *grower) add() {
	g.n++
	path := filepath.Join(pick(g, g.directories()), fmt.Sprintf("%s%d", pick(g, names), g.n))
	kind := g.IntN(12)
	switch kind {
	case 0, 1, 2:
		g.must(os.Mkdir(path, 0o755))
	case 3:
		g.must(os.Symlink(pick(g, []string{"..", "/etc/passwd", "../../../x", "a", "\xff"}), path))
	case 4:
		g.must(unix.Mkfifo(path, 0o640))
	case 5:
		if files := g.files(); len(files) > 0 {
			g.must(os.Link(pick(g, files), path))
			return
		}
		fallthrough
	case 6:
		g.sparse(path)
	default:
		g.must(os.WriteFile(path, g.content(), 0o644))
	}
	if kind != 3 {
		g.must(os.Chmod(path, pick(g, []fs.FileMode{0o644, 0o755, 0o400, 0, fs.ModeSetuid | 0o755, fs.ModeSetgid | 0o711, fs.ModeSticky | 0o777})))
	}
	if g.IntN(3) == 0 && os.Geteuid() == 0 {
		var stat unix.Stat_t
		g.must(unix.Lstat(path, &stat))
		g.must(unix.Lchown(path, g.IntN(70_000), g.IntN(70_000)))
		if kind != 3 {
			g.must(unix.Chmod(path, stat.Mode&07777)) // chown has removed setuid
		}
	}
	if g.IntN(4) == 0 && kind != 3 && kind != 4 {
		_ = unix.Lsetxattr(path, "user.test", []byte{0, byte(g.IntN(256))}, 0) // not every file system has them
	}
	if g.IntN(5) == 0 && kind > 6 && os.Geteuid() == 0 {
		capability := []byte{1, 0, 0, 2, byte(1 << g.IntN(8)), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		g.must(unix.Lsetxattr(path, "security.capability", capability, 0))
	}
}

// sparse makes a file with holes: at the beginning, in the middle, at the end, or everywhere.
func (g *grower) sparse(path string) {
	f, err := os.Create(path)
	g.must(err)
	defer f.Close()
	g.must(f.Truncate(int64(1+g.IntN(8)) << 20))
	for range g.IntN(4) {
		_, err := f.WriteAt([]byte("data"), g.Int64N(1<<20))
		g.must(err)
	}
}

// times gives everything a time of its own, to the nanosecond, also before 1970.
func (g *grower) times() {
	g.must(filepath.WalkDir(g.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		t := unix.NsecToTimespec(g.Int64N(4e18) - 1e17)
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	}))
}

// change makes some changes.
func (g *grower) change() {
	for range g.IntN(6) {
		files := g.files()
		if len(files) == 0 {
			g.add()
			continue
		}
		path := pick(g, files)
		switch g.IntN(8) {
		case 0:
			g.must(os.Remove(path))
		case 1: // same size and mtime, other content
			info, err := os.Stat(path)
			g.must(err)
			if info.Size() > 0 && info.Size() < 1<<20 {
				b, err := os.ReadFile(path)
				g.must(err)
				b[g.IntN(len(b))]++
				g.must(os.WriteFile(path, b, 0o644))
				g.must(os.Chtimes(path, info.ModTime(), info.ModTime()))
			}
		case 2:
			g.must(os.Chtimes(path, day, day.Add(time.Duration(g.IntN(1e9)))))
		case 3:
			g.n++
			g.must(os.Rename(path, filepath.Join(pick(g, g.directories()), fmt.Sprintf("moved%d", g.n))))
		case 4:
			g.must(os.WriteFile(path, g.content(), 0o600))
		case 5:
			g.must(os.Chmod(path, fs.FileMode(g.IntN(0o1000))))
		case 6:
			if all := g.directories(); len(all) > 1 {
				g.must(os.RemoveAll(pick(g, all[1:])))
			}
		default:
			g.add()
		}
	}
}
