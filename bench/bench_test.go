// Package bench compares the speed of warmlayer with that of BuildKit's own client: paired,
// alternating runs of the same build on the same machine. Run it with
//
//	make bench
//
// Each benchmark reports the medians of its rounds, and the median of the ratios of its pairs.
package bench

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// pairs are the times of two ways to do the same, in seconds, round by round.
type pairs struct{ theirs, ours []float64 }

// round measures both; the first one runs first in even rounds, the second one in odd rounds.
func (p *pairs) round(theirs, ours func()) {
	first, second := theirs, ours
	if len(p.ours)%2 == 1 {
		first, second = ours, theirs
	}
	a, b := seconds(first), seconds(second)
	if len(p.ours)%2 == 1 {
		a, b = b, a
	}
	p.theirs, p.ours = append(p.theirs, a), append(p.ours, b)
}

func seconds(run func()) float64 {
	began := time.Now()
	run()
	return time.Since(began).Seconds()
}

// report reports the medians, the median of the ratios, and that of the time above ratio 1.1.
func (p *pairs) report(b *testing.B) {
	rest := make([]float64, len(p.ours))
	for i := range p.ours {
		rest[i] = p.ours[i] - 1.1*p.theirs[i]
	}
	b.ReportMetric(0, "ns/op") // the time of a whole round, which is of no interest
	b.ReportMetric(1000*median(p.theirs), "theirs-ms")
	b.ReportMetric(1000*median(p.ours), "ours-ms")
	b.ReportMetric(p.ratio(), "ratio")
	b.ReportMetric(1000*median(rest), "over-1.1x-ms")
}

// ratio is the median of the ratios.
func (p *pairs) ratio() float64 {
	ratios := make([]float64, len(p.ours))
	for i := range p.ours {
		ratios[i] = p.ours[i] / p.theirs[i]
	}
	return median(ratios)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// BenchmarkOverhead runs both clients on one running daemon, with the same cache entries. Each
// build has new content, so neither benefits from the other.
func BenchmarkOverhead(b *testing.B) {
	for _, c := range []struct {
		name   string
		change bool
		export bool
	}{
		{"unchanged, no export", false, false},
		{"code change, no export", true, false},
		{"code change, export", true, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			daemon, image := testkit.StartBuildkitd(b), testkit.StartRegistry(b).Host+"/app"
			app := testkit.App(b)
			cache := image + ":cache-b-main"
			testkit.Buildctl(b, daemon, app, "--export-cache", "type=registry,mode=max,compression=zstd,ref="+cache)
			ours := testkit.Invocation{Dir: app, Branch: "main", Args: []string{
				"--builder", daemon, "--tags", image + ":ours", "--push", "--cache", "type=registry,ref=" + image,
			}}
			theirs := []string{"--import-cache", "type=registry,ref=" + cache, "--output", "type=image,push=true,name=" + image + ":theirs"}
			if c.export {
				theirs = append(theirs, "--export-cache", "type=registry,mode=max,compression=zstd,ref="+cache)
			} else {
				ours.Args = append(ours.Args, "--cache-write", "never")
			}
			edit := func() {
				if c.change {
					testkit.Write(b, filepath.Join(app, "site", "index.txt"), "Page\n\n"+rand.Text())
				}
			}
			var p pairs
			for b.Loop() {
				p.round(
					func() { edit(); testkit.Buildctl(b, daemon, app, theirs...) },
					func() { edit(); ours.Build(b) },
				)
			}
			p.report(b)
		})
	}
}

// BenchmarkUnchangedLocal builds unchanged code on an empty builder, with a cache in a directory
// and in a registry on loopback.
func BenchmarkUnchangedLocal(b *testing.B) {
	app, image := testkit.App(b), testkit.StartRegistry(b).Host+"/app"
	testkit.Write(b, filepath.Join(app, "Dockerfile"), bigDockerfile)
	fill(b, filepath.Join(app, "data"), 200<<20)
	run := func(cache string) testkit.Report {
		return testkit.Invocation{Dir: app, Branch: "main", Args: []string{"--tags", image + ":v1", "--push", "--cache", cache}}.Build(b)
	}
	local, registry := "type=local,dest="+filepath.Join(testkit.Temp(b), "cache"), "type=registry,ref="+image
	run(registry)
	run(local)
	var whole, build pairs
	for b.Loop() {
		var r, l testkit.Report
		whole.round(func() { r = run(registry) }, func() { l = run(local) })
		build.theirs, build.ours = append(build.theirs, phase(r, "build")), append(build.ours, phase(l, "build"))
	}
	whole.report(b)
	b.ReportMetric(1000*median(build.theirs), "theirs-build-ms")
	b.ReportMetric(1000*median(build.ours), "ours-build-ms")
}

const bigDockerfile = `FROM scratch AS base
ADD rootfs.tar /
COPY data /data
RUN wc -c /data > /size
`

func phase(r testkit.Report, name string) float64 {
	for _, p := range r.Phases {
		if p.Name == name {
			return p.Seconds
		}
	}
	return 0
}

// fill writes a file of random bytes, which do not compress.
func fill(b *testing.B, path string, size int64) {
	b.Helper()
	f, err := os.Create(path)
	if err == nil {
		_, err = io.CopyN(f, rand.Reader, size)
	}
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkMemory sends a context of 1 GiB, and then writes and reads a layer of 1 GiB through the
// gateway. It reports the largest resident set of warmlayer, without the builder.
func BenchmarkMemory(b *testing.B) {
	app := filepath.Join(testkit.Temp(b), "app")
	if err := os.CopyFS(app, os.DirFS(testkit.App(b))); err != nil {
		b.Fatal(err)
	}
	testkit.Write(b, filepath.Join(app, "Dockerfile"), bigDockerfile)
	fill(b, filepath.Join(app, "data"), 1<<30)
	memory := func(b *testing.B, cold testkit.Invocation) {
		cold.Dir, cold.Branch = app, "main"
		cold.Args = append(cold.Args, "--compression", "uncompressed")
		warm := cold
		warm.Args = append(slices.Clone(cold.Args), "--outputs", "type=tar,dest="+filepath.Join(testkit.Temp(b), "out.tar"))
		for b.Loop() {
			b.ReportMetric(peak(b, cold), "context-and-export-MB")
			b.ReportMetric(peak(b, warm), "import-and-tar-MB")
		}
		b.ReportMetric(0, "ns/op")
	}
	b.Run("local", func(b *testing.B) {
		memory(b, testkit.Invocation{Args: []string{"--cache", "type=local,dest=" + filepath.Join(testkit.Temp(b), "cache")}})
	})
	for _, store := range objectStores {
		b.Run(store.name, func(b *testing.B) {
			memory(b, testkit.Invocation{Args: []string{"--cache", store.open(b, roundTrip)("main")}})
		})
	}
}

// peak runs the program and polls its high-water mark of memory, which is gone when the process
// ends.
func peak(b *testing.B, run testkit.Invocation) float64 {
	b.Helper()
	cmd, _ := run.Command(b)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var most float64
	for {
		select {
		case err := <-done:
			if err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			return most
		case <-tick.C:
			most = max(most, highWater(cmd))
		}
	}
}

// highWater is VmHWM of a process in MB; 0 when it has ended.
func highWater(cmd *exec.Cmd) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kib, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	n, err := strconv.ParseFloat(kib, 64)
	if err != nil {
		return 0
	}
	return n * 1024 / 1e6
}
