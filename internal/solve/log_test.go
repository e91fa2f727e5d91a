package solve_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/util/progress/progressui"
	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/screen"
	"github.com/warmlayer/warmlayer/internal/solve"
)

// pieces are the pieces of a text of so many bytes that consists of one block again and again. BuildKit
// sends what one read of a step's pipe brings, which is 32 KiB at most.
func pieces(block string, size int) iter.Seq2[int, []byte] {
	const piece = 32 << 10
	text := []byte(strings.Repeat(block, piece/len(block)+2))
	return func(yield func(int, []byte) bool) {
		for from := 0; from < size; from += piece {
			at := from % len(block)
			if !yield(1, text[at:at+min(piece, size-from)]) {
				return
			}
		}
	}
}

// outputs are blocks of what steps print.
func outputs() map[string]string {
	source, random := rand.New(rand.NewPCG(3, 4)), make([]byte, 57*1000)
	for i := range random {
		random[i] = byte(source.Uint32())
	}
	encoded := base64.StdEncoding.EncodeToString(random)
	var columns strings.Builder
	for from := 0; from < len(encoded); from += 76 {
		columns.WriteString(encoded[from:from+76] + "\n")
	}
	return map[string]string{
		"one line":       `{"name":"left-pad","version":"1.3.0","dependencies":{"a":"^1.2.3"},"main":"./dist/index.js"},`,
		"lines":          "Unpacking libfoo-dev:amd64 (1.2.3-1+deb13u1) ...\n",
		"compiler":       "/src/app/main.c:107:13: warning: unused variable 'x' [-Wunused-variable]\n",
		"short lines":    "y\n",
		"hashes":         "#",
		"colons":         ":",
		"ESC":            "\x1b",
		"colors":         "\x1b[32mok\x1b[0m \x1b[1mtest\x1b[0m 12 ms\n",
		"base64":         encoded,
		"base64 columns": columns.String(),
	}
}

// secrets are a hundred, as CIs give them to a build.
func secrets() []string {
	r := rand.New(rand.NewPCG(1, 2))
	word := func(n int) string {
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	key := "-----BEGIN PRIVATE KEY-----\n"
	for range 50 {
		key += word(64) + "\n"
	}
	all := []string{key + "-----END PRIVATE KEY-----\n", `pa"ss wo/rd`}
	for i := len(all); i < 100; i++ {
		all = append(all, []string{"ghp_", "glpat-", "", "AKIA"}[i%4]+word(8+i%33))
	}
	return all
}

// TestLogOfBothStreams: a step writes halves of a command and of a credential to its standard output and
// to its standard error, which are harmless by themselves, and which BuildKit's display puts into one line.
func TestLogOfBothStreams(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	r := report.NewRedactor(nil)
	out := r.Progress(&log)
	_, err := solve.ShowLog(r, progressui.PlainMode, out, func(yield func(int, []byte) bool) {
		for i, half := range []string{"x ##vso", "[task.setvariable variable=A]b ", "sig=", "aGlkZGVu"} {
			if !yield(1+i%2, []byte(half)) {
				return
			}
		}
	})
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	if want := `x ##vso\u005btask.setvariable variable=A]b sig=***`; !strings.Contains(log.String(), want) {
		t.Errorf("the log is %q, want %q", log.String(), want)
	}
}

// processor is the processor time that this process has used. It grows less than time does when other
// programs run beside the benchmark.
func processor(b *testing.B) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// plain shows everything as it is.
type plain struct{}

type open struct{ io.Writer }

func (open) Close() error                          { return nil }
func (plain) Log(to io.Writer) io.WriteCloser      { return open{to} }
func (plain) Progress(to io.Writer) io.WriteCloser { return open{to} }
func (plain) Text(text string) string              { return text }

// screens make what is shown fit for a log.
type screens interface {
	screen.Text
	Progress(io.Writer) io.WriteCloser
}

// show passes an output to a job's log as a build does.
func show(t testing.TB, s screens, block string, size int, to io.Writer) {
	t.Helper()
	log := s.Progress(to)
	_, err := solve.ShowLog(s, progressui.PlainMode, log, pieces(block, size))
	if err := errors.Join(err, log.Close()); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkLog passes outputs of 10 and 100 MB, the latter two million "lines", to a job's log as a build
// does: secrets are hidden, commands broken, the end is kept for the report, and BuildKit's display puts its
// prefixes before lines. "display" is that display alone.
func BenchmarkLog(b *testing.B) {
	for name, block := range outputs() {
		for _, size := range []int{10e6, 100e6} {
			for way, s := range map[string]screens{"warmlayer": report.NewRedactor(secrets()), "display": plain{}} {
				b.Run(fmt.Sprintf("%s/%dMB/%s", name, size/1e6, way), func(b *testing.B) {
					b.SetBytes(int64(size))
					b.ReportAllocs()
					before := processor(b)
					for b.Loop() {
						show(b, s, block, size, io.Discard)
					}
					b.ReportMetric(float64(size)/1e6*float64(b.N)/(processor(b)-before).Seconds(), "MB/cpu-s")
				})
			}
		}
	}
}

// TestLogIsLinear: twice the output takes twice the memory, and becomes twice the text. The work of the
// redaction is counted beside it, in TestWriterWorkIsLinear.
func TestLogIsLinear(t *testing.T) {
	r := report.NewRedactor(secrets())
	for name, block := range outputs() {
		work := func(size int) (allocated, written float64) {
			var before, after runtime.MemStats
			var out counter
			runtime.ReadMemStats(&before)
			show(t, r, block, size, &out)
			runtime.ReadMemStats(&after)
			return float64(after.TotalAlloc - before.TotalAlloc), float64(out)
		}
		const size = 500e3
		work(size) // what is made once
		once, text := work(size)
		twice, longer := work(2 * size)
		if twice > 2.5*once || longer > 2.2*text {
			t.Errorf("%s: %.0f bytes of memory and %.0f of text, for twice the output %.0f and %.0f", name, once, text, twice, longer)
		}
	}
}

// counter counts bytes.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
