package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// stages are what a build goes through. A trial is signalled after the first line of the output
// that contains the text, or after its start, and a random further time of at most spread.
var stages = []struct {
	name, line string
	spread     time.Duration
}{
	{"start of the builder", "", 800 * time.Millisecond},
	{"reading", "", 150 * time.Millisecond},
	{"importing", "importing cache manifest", 150 * time.Millisecond},
	{"extracting", "extracting sha256", 300 * time.Millisecond},
	{"a RUN", "the step runs", 400 * time.Millisecond},
	{"exporting", "exporting layers", 400 * time.Millisecond},
	{"pushing", "pushing layers", 300 * time.Millisecond},
	{"committing", "pushing manifest", 600 * time.Millisecond},
}

// interrupted are the beds of the trials, with the number of trials in each.
var interrupted = []struct {
	kind, cache    string
	trials, soaked int
}{
	{"embedded", "local", 4, 40},
	{"embedded", "registry", 4, 40},
	{"embedded", "s3", 4, 40},
	{"embedded", "azblob", 4, 40},
	{"embedded", "gha", 4, 40},
	{"rootless", "local", 3, 30},
	{"container", "s3", 4, 40},
	{"remote", "registry", 3, 30},
}

// TestInterrupted signals builds at random moments of every stage. They end within five seconds, and
// leave no process, container, mount, socket or file; a killed one leaves none after the next build. The
// cache is the old one or the new one, whole, and the next build uses it.
//
// The moments follow from a seed, which the test logs and WARMLAYER_SEED repeats. WARMLAYER_SOAK=1
// makes ten times as many trials.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	seed := testkit.Seed(t)
	for i, in := range interrupted {
		t.Run(in.kind+" "+in.cache, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			b := newBed(t, in.kind, in.cache)
			b.build(t)
			b.files = b.inventory(t)
			order := trials(random, i, testkit.Long(in.trials, in.soaked))
			for _, trial := range order {
				b.try(t, trial)
				if t.Failed() {
					break // what it has left would fail the others too
				}
			}
			b.summarise(t)
		})
	}
}

// trial is a signal at a moment.
type trial struct {
	stage  int
	extra  time.Duration
	signal syscall.Signal
}

// trials are n trials in a random order. All beds together have all stages and signals.
func trials(random *rand.Rand, bed, n int) []trial {
	signals := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL}
	var all []trial
	for i := range n {
		stage := (bed*3 + i) % len(stages)
		all = append(all, trial{
			stage: stage, signal: signals[(bed+i)%len(signals)],
			extra: time.Duration(random.Int64N(int64(stages[stage].spread))),
		})
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// moment is the output of a program, which tells when it has come to a line.
type moment struct {
	line string // "": it has come there already

	mu   sync.Mutex
	text bytes.Buffer
	once sync.Once
	come chan struct{}
}

func newMoment(line string) *moment {
	m := &moment{line: line, come: make(chan struct{})}
	if line == "" {
		m.once.Do(func() { close(m.come) })
	}
	return m
}

func (m *moment) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.text.Write(p)
	if m.line != "" && bytes.Contains(m.text.Bytes(), []byte(m.line)) {
		m.once.Do(func() { close(m.come) })
	}
	return len(p), nil
}

func (m *moment) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// try interrupts a build, and builds again.
func (b *bed) try(t *testing.T, tr trial) {
	t.Helper()
	before := b.whole(t)
	b.change(t)
	stage := stages[tr.stage]
	what := fmt.Sprintf("%v %v after %s (%s)", tr.signal, tr.extra, stage.name, stage.line)
	took, code, said := b.interrupt(t, tr)
	// A program ends by the signal itself before its own code runs: it has started nothing.
	early := code == -1 && said == "" && stage.line == ""
	switch {
	case code == 130 || code == 0 || early:
		if tr.signal != syscall.SIGKILL {
			b.nothingLeft(t, what)
		}
	case code == -1 && tr.signal == syscall.SIGKILL:
	default:
		t.Errorf("%s: exit code %d", what, code)
	}
	after := b.whole(t)
	b.count(tr, code, after != before, took)
	if b.run.Env["ACTIONS_RUNTIME_TOKEN"] != "" && after == before {
		// GitHub's service keeps an entry that was begun, and refuses another one with its key.
		b.change(t)
	}
	report := b.build(t)
	if report.Source("b-main") != "loaded" {
		t.Errorf("%s: the next build's sources are %+v", what, report.Sources)
	}
	if after != before && report.Cached() != len(report.Steps) {
		t.Errorf("%s: the cache is new, and %d of %d steps are cached", what, report.Cached(), len(report.Steps))
	}
	if len(report.Exports) != 1 || !slices.Contains([]string{"written", "unchanged"}, report.Exports[0].Outcome) {
		t.Errorf("%s: the next build's exports are %+v", what, report.Exports)
	}
	b.nothingLeft(t, what+", after the next build")
	b.whole(t)
	if t.Failed() {
		t.Logf("%s: the output was:\n%s", what, said)
	}
}

// interrupt runs a build, signals it at its moment, and returns how long it took from then to its
// end, its exit code and its output. A killed build has the exit code -1.
func (b *bed) interrupt(t *testing.T, tr trial) (took time.Duration, code int, said string) {
	t.Helper()
	cmd, out := b.command(t), newMoment(stages[tr.stage].line)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its exit code is checked
	}()
	defer func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	}()
	b.await(t, tr, out, ended)
	signalled := time.Now()
	_ = cmd.Process.Signal(tr.signal) // an error says that it has ended
	select {
	case <-ended:
	case <-time.After(longestEnd):
		t.Fatalf("%v after %s: it still runs after %v:\n%s", tr.signal, stages[tr.stage].name, longestEnd, out)
	}
	return time.Since(signalled), cmd.ProcessState.ExitCode(), out.String()
}

// await waits for the moment of a trial, or for the end of the build.
func (b *bed) await(t *testing.T, tr trial, out *moment, ended chan struct{}) {
	t.Helper()
	select {
	case <-out.come:
	case <-ended:
	case <-time.After(2 * time.Minute):
		t.Fatalf("it does not come to %s:\n%s", stages[tr.stage].name, out)
	}
	if stages[tr.stage].name == "reading" {
		for deadline := time.After(time.Second); !b.begun(t); {
			select {
			case <-ended:
				return
			case <-deadline: // no file shows when a remote builder is used
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	select {
	case <-time.After(tr.extra): // the moment is what is tested
	case <-ended:
	}
}

// begun tells whether a build has made its first file: it reads its caches then, and starts its
// builder.
func (b *bed) begun(t *testing.T) bool {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(b.root, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries) > 0
}

// longestEnd is how long a build may take to end after a signal.
const longestEnd = 5 * time.Second

// count adds a trial to the bed's figures.
func (b *bed) count(tr trial, code int, renewed bool, took time.Duration) {
	if code == 0 {
		b.early++
	}
	if renewed {
		b.renewed++
	}
	b.tried[tr.signal]++
	b.longest[tr.signal] = max(b.longest[tr.signal], took)
}

// summarise logs what has been tried.
func (b *bed) summarise(t *testing.T) {
	t.Helper()
	var all []string
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		all = append(all, fmt.Sprintf("%v: %d trials, longest end %v", s, b.tried[s], b.longest[s].Round(time.Millisecond)))
	}
	t.Logf("%s; %d had ended before the signal; %d caches were new", strings.Join(all, "; "), b.early, b.renewed)
}
