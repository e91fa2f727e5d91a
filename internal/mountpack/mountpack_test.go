package mountpack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// seeds make the random trees of these tests.
var seeds = []uint64{1, 2, 3, 5, 8, 13}

// shelf keeps packs.
type shelf map[string][]byte

func (s shelf) open(_ context.Context, p Pack) (io.Reader, error) {
	b, ok := s[p.Digest.String()]
	if !ok {
		return nil, fmt.Errorf("there is no pack %s", p.Digest)
	}
	return bytes.NewReader(b), nil
}

// save saves a directory, keeps its pack, and returns the index as a store gives it back.
func (s shelf) save(t *testing.T, dir string, previous *Index, r SaveRequest) (*Index, SaveStats) {
	t.Helper()
	var pack bytes.Buffer
	x, stats, err := Save(t.Context(), dir, previous, r, &pack)
	if err != nil {
		t.Fatal(err)
	}
	if int64(pack.Len()) != stats.Pack {
		t.Fatalf("a pack of %d bytes; the statistics say %d", pack.Len(), stats.Pack)
	}
	if pack.Len() > 0 {
		s[x.Packs[len(x.Packs)-1].Digest.String()] = pack.Bytes()
	}
	parsed, err := ParseIndex(x.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(parsed.Encode(), x.Encode()) {
		t.Fatal("the index is another one when it was parsed")
	}
	return parsed, stats
}

// restore restores an index to a new directory.
func (s shelf) restore(t *testing.T, x *Index) (dir string, stats RestoreStats) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "restored")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stats, err := Restore(t.Context(), dir, x, RestoreRequest{}, s.open)
	if err != nil {
		t.Fatal(err)
	}
	return dir, stats
}

// describe is all that a directory is, for comparisons: a line for each name.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	links := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if stat.Mode&unix.S_IFMT == unix.S_IFSOCK || stat.Mode&unix.S_IFMT == unix.S_IFCHR {
			return nil
		}
		fmt.Fprintf(&out, "%q %o %d:%d %d", name, stat.Mode, stat.Uid, stat.Gid, stat.Mtim.Nano())
		xattrs, lost := readXattrs(path)
		fmt.Fprintf(&out, " %q", xattrs)
		if lost > 0 {
			t.Errorf("%s: %d extended attributes cannot be read", path, lost)
		}
		switch stat.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " -> %q", target)
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if first, ok := links[stat.Ino]; ok && stat.Nlink > 1 {
				fmt.Fprintf(&out, " = %q", first)
			} else {
				links[stat.Ino] = name
			}
			fmt.Fprintf(&out, " %d bytes, sum %x", len(content), sumOf(content))
		}
		fmt.Fprintln(&out)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// requireEqual compares two directories in everything.
func requireEqual(t *testing.T, got, want string) {
	t.Helper()
	a, b := strings.Split(describe(t, got), "\n"), strings.Split(describe(t, want), "\n")
	if slices.Equal(a, b) {
		return
	}
	for _, line := range a {
		if !slices.Contains(b, line) {
			t.Errorf("got  %s", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("want %s", line)
		}
	}
	t.FailNow()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir, packs := t.TempDir(), shelf{}
			g := &grower{t: t, Rand: rand.New(rand.NewPCG(seed, 0)), dir: dir}
			g.grow(60)
			x, stats := packs.save(t, dir, nil, SaveRequest{})
			if stats.Added != len(x.Entries) || stats.Unstable+stats.Xattrs > 0 {
				t.Errorf("statistics: %+v", stats)
			}
			restored, _ := packs.restore(t, x)
			requireEqual(t, restored, dir)
		})
	}
}

// A mount is restored, changed and saved, again and again.
func TestGenerations(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			dir, packs := t.TempDir(), shelf{}
			g := &grower{t: t, Rand: rand.New(rand.NewPCG(seed, 1)), dir: dir}
			g.grow(40)
			var x *Index
			request := SaveRequest{}
			for range 10 {
				x, _ = packs.save(t, dir, x, request)
				restored, stats := packs.restore(t, x)
				requireEqual(t, restored, dir)
				same, again := packs.save(t, restored, x, SaveRequest{Since: stats.Clock})
				if !again.Same || again.Read > 0 || again.Pack > 0 || !bytes.Equal(same.Encode(), x.Encode()) {
					t.Fatalf("nothing changed, but: %+v", again)
				}
				if len(x.Packs) > MaxPacks {
					t.Fatalf("%d packs", len(x.Packs))
				}
				dir, request.Since = restored, stats.Clock
				g.dir = dir
				g.change()
			}
		})
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	dir, packs := t.TempDir(), shelf{}
	r := rand.New(rand.NewPCG(7, 7))
	for i := range 6 {
		b := make([]byte, 100)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	x, _ := packs.save(t, dir, nil, SaveRequest{})
	name := x.Packs[0].Digest.String()
	whole := packs[name]
	target := t.TempDir()
	if err := os.Chmod(target, 0o711); err != nil {
		t.Fatal(err)
	}
	mtime := func() {
		if err := os.Chtimes(target, day, day); err != nil {
			t.Fatal(err)
		}
	}
	mtime()
	before := describe(t, target)
	try := func(what string, pack []byte) {
		t.Helper()
		if _, err := Restore(t.Context(), target, x, RestoreRequest{}, shelf{name: pack}.open); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: %v", what, err)
		}
		if mtime(); describe(t, target) != before {
			t.Fatalf("%s: the mount is not as it was:\n%s", what, describe(t, target))
		}
	}
	for i := range whole {
		flipped := slices.Clone(whole)
		flipped[i] ^= 1 << r.IntN(8)
		try(fmt.Sprintf("byte %d of %d is another one", i, len(whole)), flipped)
		try(fmt.Sprintf("cut at byte %d of %d", i, len(whole)), whole[:i])
	}
	try("longer", append(slices.Clone(whole), 0))
}
