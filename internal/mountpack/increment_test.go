package mountpack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build makes n files of 4 KB that do not compress, as a compiler's cache has them.
func build(t *testing.T, dir string, r *rand.Rand, first, n int) {
	t.Helper()
	for i := first; i < first+n; i++ {
		content := make([]byte, 4096)
		for j := range content {
			content[j] = byte(r.Uint32())
		}
		sub := filepath.Join(dir, fmt.Sprintf("%02x", i%256))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, sub, fmt.Sprintf("%064x-d", sumOf(content)), string(content))
	}
}

// A change of one hundredth costs at most one twentieth of what the whole costs, index included; touching
// everything costs the index alone.
func TestIncrement(t *testing.T) {
	t.Parallel()
	dir, packs, r := t.TempDir(), shelf{}, rand.New(rand.NewPCG(1, 1))
	build(t, dir, r, 0, 3000)
	x, first := packs.save(t, dir, nil, SaveRequest{})
	whole := first.Pack + int64(len(x.Encode()))
	dir, restored := packs.restore(t, x)
	build(t, dir, r, 3000, 30)
	next, stats := packs.save(t, dir, x, SaveRequest{Since: restored.Clock})
	cost := stats.Pack + int64(len(next.Encode()))
	t.Logf("whole %d bytes; increment %d, of which the index is %d", whole, cost, len(next.Encode()))
	if stats.Added != 30 || cost*20 > whole {
		t.Errorf("%+v: %d of %d bytes", stats, cost, whole)
	}
	for _, path := range (&grower{t: t, dir: dir}).files() {
		if err := os.Chtimes(path, day, day.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	touched, stats := packs.save(t, dir, next, SaveRequest{})
	if stats.Pack > 0 || stats.Touched != 3030 || stats.Same {
		t.Errorf("touched: %+v", stats)
	}
	back, _ := packs.restore(t, touched)
	requireEqual(t, back, dir)
}

// What is uploaded over many builds is a small multiple of what changed, and the packs stay few and mostly
// alive.
func TestCompaction(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(2, 2))
	for _, replaced := range []int64{0, 5, 10} { // of the 10 that each build adds
		const whole = 1000
		packs, live := []Pack{{Raw: whole}}, []int64{whole}
		uploaded, fresh := int64(0), int64(0)
		for range 2000 {
			for n := replaced; n > 0; { // bytes die anywhere
				i := r.IntN(len(packs))
				dead := min(n, live[i])
				live[i] -= dead
				n -= dead
			}
			gone := absorbed(packs, live, 10, false)
			pack := int64(10)
			var keptPacks []Pack
			var keptLive []int64
			for i := range packs {
				if gone[i] {
					pack += live[i]
				} else if live[i] > 0 {
					keptPacks, keptLive = append(keptPacks, packs[i]), append(keptLive, live[i])
				}
			}
			packs, live = append(keptPacks, Pack{Raw: pack}), append(keptLive, pack)
			uploaded, fresh = uploaded+pack, fresh+10
			stored, needed := int64(0), int64(0)
			for i := range packs {
				stored, needed = stored+packs[i].Raw, needed+live[i]
			}
			if len(packs) > MaxPacks || stored > 2*needed+10 {
				t.Fatalf("%d packs with %d bytes, of which %d are needed", len(packs), stored, needed)
			}
		}
		t.Logf("%d of 10 replaced: %d uploaded for %d new", replaced, uploaded, fresh)
		if uploaded > 5*fresh {
			t.Errorf("%d of 10 replaced: %d uploaded for %d new", replaced, uploaded, fresh)
		}
	}
}

// The content of a mount is never in memory as a whole.
func TestMemory(t *testing.T) { // not parallel: it measures the heap
	dir := t.TempDir()
	const size, limit = 192 << 20, 96 << 20
	f, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(3, 3))
	for block := bytes.Repeat([]byte("0123456789abcdef"), 1<<12); ; {
		for i := 0; i < len(block); i += 8 {
			block[i] = byte(r.Uint32())
		}
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
		if at, _ := f.Seek(0, io.SeekCurrent); at >= size {
			break
		}
	}
	peak := &heap{}
	pack, err := os.Create(filepath.Join(t.TempDir(), "pack"))
	if err != nil {
		t.Fatal(err)
	}
	defer pack.Close()
	x, _, err := Save(t.Context(), dir, nil, SaveRequest{}, io.MultiWriter(pack, peak))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Restore(t.Context(), t.TempDir(), x, RestoreRequest{}, func(context.Context, Pack) (io.Reader, error) {
		_, err := pack.Seek(0, io.SeekStart)
		return io.TeeReader(pack, peak), err
	})
	if err != nil {
		t.Fatal(err)
	}
	if peak.most > limit {
		t.Errorf("the heap had %d MB", peak.most>>20)
	}
	t.Logf("the heap had %d MB; the pack has %d", peak.most>>20, x.Packs[0].Bytes>>20)
}

// heap measures the heap, whenever something is written to it.
type heap struct{ most uint64 }

func (h *heap) Write(b []byte) (int, error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h.most = max(h.most, m.HeapInuse)
	return len(b), nil
}

// Files that change, grow and vanish while they are read make no bad pack.
func TestBusyMount(t *testing.T) {
	t.Parallel()
	dir, packs, r := t.TempDir(), shelf{}, rand.New(rand.NewPCG(4, 4))
	build(t, dir, r, 0, 200)
	stop, done := make(chan struct{}), make(chan struct{})
	defer func() { <-done }()
	defer close(stop)
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			path := filepath.Join(dir, fmt.Sprintf("%02x", i%256), fmt.Sprintf("busy%d", i%7))
			switch i % 3 {
			case 0:
				_ = os.WriteFile(path, bytes.Repeat([]byte{byte(i)}, 1<<(i%22)), 0o644)
			case 1:
				_ = os.Rename(path, path+"x")
			default:
				_ = os.RemoveAll(filepath.Dir(path))
				_ = os.Mkdir(filepath.Dir(path), 0o755)
			}
		}
	}()
	var indexes []*Index
	var x *Index
	for range 10 {
		x, _ = packs.save(t, dir, x, SaveRequest{})
		indexes = append(indexes, x)
	}
	for _, x := range indexes {
		packs.restore(t, x)
	}
}

// A user without privileges restores what it may, and counts the rest.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root makes files of other users")
	}
	dir := t.TempDir()
	write(t, dir, "mine", "1")
	write(t, dir, "another's", "2")
	if err := os.Chown(filepath.Join(dir, "another's"), 77, 77); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "another's"), os.ModeSetuid|0o755); err != nil {
		t.Fatal(err)
	}
	saved, pack, err := asked(t, dir, SaveRequest{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	target, err := os.MkdirTemp("/tmp", "Test-mountpack-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(target)
	if err := os.Chown(target, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(target, "program")
	if out, err := exec.Command("go", "build", "-o", program, "./program").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mount := filepath.Join(target, "mount")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(mount, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, Command, "restore", mount)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	var stderr strings.Builder
	if cmd.Stderr = &stderr; cmd.Start() != nil {
		t.Fatal("the program does not start")
	}
	stats, err := AskRestore(t.Context(), stdin, stdout, RestoreRequest{}, saved.Index, opener(pack))
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err, stderr.String())
	}
	if stats.Owners != 3 || stats.Modes != 1 || stats.Entries != 3 {
		t.Errorf("%+v", stats)
	}
	info, err := os.Stat(filepath.Join(mount, "another's"))
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("a file that another user owned is %v, %v", info.Mode(), err)
	}
}
