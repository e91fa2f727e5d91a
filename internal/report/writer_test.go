package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/console"
	"github.com/moby/buildkit/util/progress/progressui"
)

// TestWriterIsLive checks what is passed on after every write.
func TestWriterIsLive(t *testing.T) {
	t.Parallel()
	type step struct{ write, want string }
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"nothing to hide", []step{{"downloading .", "downloading ."}, {".", "."}, {"\n", "\n"}}},
		{"a beginning of a secret", []step{{"a hun", "a "}, {"ter", ""}, {"2 or", "*** or"}}},
		{"a beginning that goes on otherwise", []step{{"hunt", ""}, {"ing ", "hunting "}}},
		{"a beginning at the end of a line", []step{{"hunter\n", "hunter\n"}}},
		{"a carriage return", []step{{"50% hunter\r", "50% hunter\r"}}},
		{"a secret that goes on", []step{{"hunter2hunt", "***"}, {"er2", "***"}, {"\n", "\n"}}},
		{"a signature in pieces", []step{{"?s", "?s"}, {"ig=ab", "ig=***"}, {"cd", ""}, {"&se=1", "&se=1"}}},
		{"a URL in pieces", []step{{"http:", "http:"}, {"//user:pa", "//"}, {"ss@host", "***"}, {"/r", "@host/r"}}},
		{"a URL at the end of a line", []step{{"see http://localhost:5000\n", "see http://localhost:5000\n"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var to bytes.Buffer
			w := NewRedactor([]string{"hunter2"}).Writer(&to)
			for _, s := range tt.steps {
				to.Reset()
				if n, err := io.WriteString(w, s.write); n != len(s.write) || err != nil {
					t.Fatal(n, err)
				}
				if to.String() != s.want {
					t.Errorf("%q passes %q on, want %q", s.write, to.String(), s.want)
				}
			}
		})
	}
}

func TestWriterOverlapAcrossWrites(t *testing.T) {
	t.Parallel()
	var to strings.Builder
	w := NewRedactor([]string{"abcdef", "defghi"}).Writer(&to)
	for _, c := range "xabcdefghiy abcdefabcdef" {
		if _, err := io.WriteString(w, string(c)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if want := "x***y ******"; to.String() != want {
		t.Errorf("%q, want %q", to.String(), want)
	}
}

func TestWriterFlush(t *testing.T) {
	t.Parallel()
	var to strings.Builder
	w := NewRedactor([]string{"hunter2"}).Writer(&to)
	for _, text := range []string{"hunter", "2", "?sig=abc"} {
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	// After the flush, the end of the secret alone is not redacted.
	if want := "hunter2?sig=***"; to.String() != want {
		t.Errorf("%q, want %q", to.String(), want)
	}
}

// TestWriterBoundsWhatItHolds writes values without an end. A signature is hidden whole, and
// never held; what may be user info is shown when it is longer than any.
func TestWriterBoundsWhatItHolds(t *testing.T) {
	t.Parallel()
	for begin, hidden := range map[string]bool{"sig=": true, "://": false} {
		var to bytes.Buffer
		w := new(Redactor).Writer(&to)
		value := strings.Repeat("e", 2*longestValue)
		for _, text := range []string{begin, value} {
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
		}
		want := begin + value
		if hidden {
			want = begin + mask
		}
		if to.String() != want {
			t.Errorf("%s: %d bytes passed on, want %d", begin, to.Len(), len(want))
		}
	}
}

func TestWriterReportsErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("no space left on device")
	w := NewRedactor([]string{"hunter2"}).Writer(writerFunc(func([]byte) (int, error) { return 0, broken }))
	if n, err := io.WriteString(w, "text\n"); n != 0 || !errors.Is(err, broken) {
		t.Errorf("Write: %d, %v", n, err)
	}
	if _, err := io.WriteString(w, "hunt"); err != nil {
		t.Errorf("Write of held text: %v", err)
	}
	if err := w.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestWriterConcurrently: several goroutines write lines while secrets are added.
func TestWriterConcurrently(t *testing.T) {
	t.Parallel()
	const writers, lines = 8, 200
	var to bytes.Buffer
	r := NewRedactor([]string{"hunter2"})
	w := r.Writer(&to)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := range lines {
				r.Add(fmt.Sprintf("secret-%d-%d", i, n))
				fmt.Fprintf(w, "%d %d hunter2 secret-%d-%d\n", i, n, i, n)
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(to.String(), " *** ***\n"); got != writers*lines {
		t.Errorf("%d lines are whole and redacted, want %d", got, writers*lines)
	}
}

// TestTerminal gives BuildKit's display a real terminal behind the Redactor.
func TestTerminal(t *testing.T) {
	t.Parallel()
	master, path, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	terminal := NewRedactor([]string{"hunter2"}).Terminal(f)
	if _, err := progressui.NewDisplay(terminal, progressui.TtyMode); err != nil {
		t.Fatalf("the display does not detect the terminal: %v", err)
	}
	c, err := console.ConsoleFromFile(terminal)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Resize(console.WinSize{Width: 132, Height: 43}); err != nil {
		t.Fatal(err)
	}
	if size, err := c.Size(); err != nil || size.Width != 132 {
		t.Errorf("size %v, %v", size, err)
	}
	if _, err := io.WriteString(c, "\x1b[1mhunter2\x1b[0m hunt"); err != nil {
		t.Fatal(err)
	}
	if err := terminal.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "."); err != nil {
		t.Errorf("the file was closed: %v", err)
	}
	want := "\x1b[1m***\x1b[0m hunt."
	got := make([]byte, len(want))
	if _, err := io.ReadFull(master, got); err != nil || string(got) != want {
		t.Errorf("the terminal shows %q, %v; want %q", got, err, want)
	}
	if terminal.Name() != path || terminal.Fd() != f.Fd() {
		t.Errorf("name %s, want %s", terminal.Name(), path)
	}
}

// TestTerminalOnAPipe: when stderr is a pipe, the display detects that it is no terminal.
func TestTerminalOnAPipe(t *testing.T) {
	t.Parallel()
	r, f, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer f.Close()
	if _, err := progressui.NewDisplay(new(Redactor).Terminal(f), progressui.TtyMode); err == nil {
		t.Error("a pipe is detected as a terminal")
	}
}

// BenchmarkWriter writes lines of progress that contain no secret: first with a few known
// passwords, then also with a private key of 50 lines.
func BenchmarkWriter(b *testing.B) {
	passwords := []string{"hunter2hunter2", "ghp_0123456789abcdefghijklmnopqrstuvwxyz", `pa"ss wo/rd`}
	var key strings.Builder
	for i := range 50 {
		fmt.Fprintf(&key, "%cIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n", 'A'+i%26)
	}
	line := []byte("#12 4.217 Get:7 http://packages.example/debian stable/main amd64 libfoo-dev amd64 1.2.3-1 [123 kB]\n")
	for name, secrets := range map[string][]string{"passwords": passwords, "key": append(passwords, key.String())} {
		b.Run(name, func(b *testing.B) {
			w := NewRedactor(secrets).Writer(io.Discard)
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Write(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAdd: secrets that become known one by one, each before a line of text, and all of them
// before the text.
func BenchmarkAdd(b *testing.B) {
	const secrets = 200
	line := []byte("#12 4.217 Get:7 http://packages.example/debian stable/main amd64 libfoo-dev amd64 1.2.3-1 [123 kB]\n")
	for name, first := range map[string]int{"before": secrets, "one by one": 0} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r := NewRedactor(nil)
				w := r.Writer(io.Discard)
				for i := range secrets {
					r.Add(fmt.Sprintf("ghs_%032d", i*i))
					if i >= first {
						fmt.Fprintf(w, "%s", line)
					}
				}
				for range first {
					fmt.Fprintf(w, "%s", line)
				}
			}
		})
	}
}
