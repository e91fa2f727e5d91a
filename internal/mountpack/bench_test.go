package mountpack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkMount saves and restores a directory, and does the same with tar and zstd, turn by turn:
//
//	MOUNT=/root/.cache/go-build go test ./internal/mountpack -run '^$' -bench Mount -benchtime 5x
//
// Without MOUNT it makes a tree of many small files. The directory is only read; what is restored is
// written to TMPDIR.
func BenchmarkMount(b *testing.B) {
	dir := os.Getenv("MOUNT")
	if dir == "" {
		dir = smallFiles(b, 20_000)
	}
	packed := map[string]*os.File{}
	run := func(name string, f func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f(b)
			}
		})
	}
	file := func(name string) *os.File {
		f, err := os.Create(filepath.Join(b.TempDir(), name))
		if err != nil {
			b.Fatal(err)
		}
		packed[name] = f
		return f
	}
	var x *Index
	run("save", func(b *testing.B) {
		f := file("pack")
		var err error
		var stats SaveStats
		if x, stats, err = Save(context.Background(), dir, nil, SaveRequest{}, f); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(stats.Bytes)/1e6, "MB")
		b.ReportMetric(float64(stats.Pack)/1e6, "MB-pack")
		b.ReportMetric(float64(len(x.Encode()))/1e6, "MB-index")
		b.ReportMetric(float64(stats.Entries), "entries")
	})
	run("tar|zstd", func(b *testing.B) {
		f := file("tar")
		shell(b, "tar -C "+dir+" --xattrs -cf - . | zstd -q -3 -T2", nil, f)
		info, _ := f.Stat()
		b.ReportMetric(float64(info.Size())/1e6, "MB-pack")
	})
	to := func(b *testing.B) string {
		b.StopTimer()
		target, err := os.MkdirTemp(os.TempDir(), "mount-")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { os.RemoveAll(target) })
		b.StartTimer()
		return target
	}
	run("restore", func(b *testing.B) {
		open := func(context.Context, Pack) (io.Reader, error) { return os.Open(packed["pack"].Name()) }
		if _, err := Restore(context.Background(), to(b), x, RestoreRequest{}, open); err != nil {
			b.Fatal(err)
		}
	})
	run("zstd|tar", func(b *testing.B) {
		f, err := os.Open(packed["tar"].Name())
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		shell(b, "zstd -q -d | tar -C "+to(b)+" --xattrs -xf -", f, nil)
	})
	run("save again", func(b *testing.B) {
		_, stats, err := Save(context.Background(), dir, x, SaveRequest{}, io.Discard)
		if err != nil || !stats.Same {
			b.Fatalf("%+v, %v", stats, err)
		}
	})
}

func shell(b *testing.B, command string, in io.Reader, out io.Writer) {
	b.Helper()
	var errors bytes.Buffer
	cmd := exec.Command("sh", "-c", command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &errors
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v: %s", command, err, errors.String())
	}
}

// smallFiles makes a tree like that of node_modules.
func smallFiles(b *testing.B, n int) string {
	dir, r := b.TempDir(), rand.New(rand.NewPCG(1, 2))
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("package-%d/lib/%d.js", i/20, i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		var text bytes.Buffer
		for text.Len() < 200+r.IntN(8000) {
			fmt.Fprintf(&text, "export function f%d(value) { return value + %d; }\n", r.IntN(1000), r.IntN(1e6))
		}
		if err := os.WriteFile(path, text.Bytes(), fs.FileMode(0o644)); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}
