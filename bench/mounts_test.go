package bench

import (
	"crypto/rand"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// service is a Dockerfile that compiles this program, and tells how many milliseconds that took.
const service = `FROM BASE
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cache/go-build s=$(date +%s%N) && go build -o /program . && echo "compiled in $((($(date +%s%N) - s) / 1000000)) ms"
`

const unchangedPairs = 10

var compiledIn = regexp.MustCompile(`compiled in (\d+) ms`)

// BenchmarkMounts is a code change of a Go service of some 300 packages, this program: on an empty builder without Go's build
// cache (theirs), on an empty builder with the build cache in a mount that was kept (ours), and on a builder that has kept
// everything. "step" is the time of the step, with the restore before it and the save after it; the other times are of
// whole builds. Unchanged builds follow, without the mount and with it.
func BenchmarkMounts(b *testing.B) {
	testkit.Program(b)
	for _, backend := range []string{"registry", "s3"} {
		for name, trip := range map[string]time.Duration{"loopback": 0, "40ms": roundTrip} {
			b.Run(backend+"/"+name, func(b *testing.B) { mounted(b, backend, trip) })
		}
	}
}

func mounted(b *testing.B, backend string, trip time.Duration) {
	near := testkit.StartRegistry(b).Host
	app := serviceApp(b, near)
	line := func() string {
		return "type=registry,ref=" + testkit.Delay(b, testkit.StartRegistry(b).Host, trip) + "/cache"
	}
	if backend == "s3" {
		line = func() string { return objectStores[0].open(b, trip)("main") }
	}
	run := testkit.Invocation{Dir: app, Branch: "main", Env: map[string]string{"PATH": testkit.ImagePath(b)}, Args: []string{"--outputs", "type=cacheonly"}}
	without, with, keeps := run, run, testkit.StartBuildkitd(b)
	without.Args = append(run.Args[:2:2], "--cache", line())
	with.Args = append(run.Args[:2:2], "--cache", line(), "--cache-mounts", "auto")
	kept := func() string { return testkit.Buildctl(b, keeps, app) }
	without.Start(b)
	with.Start(b)
	kept()
	var whole, step pairs
	var keeping []float64
	for b.Loop() {
		testkit.Write(b, filepath.Join(app, "internal", "report", "bench.go"), "package report\n\nvar _ = \""+rand.Text()+"\"\n")
		var theirs, ours testkit.Output
		whole.round(func() { theirs = without.Start(b) }, func() { ours = with.Start(b) })
		moved := 0.0
		for _, m := range ours.Report.Mounts {
			if m.Restored == nil || m.Saved == nil {
				b.Fatalf("not restored or not saved: %+v\n%s", m, ours.Text)
			}
			moved += m.Restored.Seconds + m.Saved.Seconds
			b.ReportMetric(float64(m.Restored.Bytes)/1e6, "restored-MB")
			b.ReportMetric(float64(m.Saved.Bytes)/1e6, "saved-MB")
		}
		step.theirs, step.ours = append(step.theirs, compiling(b, theirs.Text)), append(step.ours, compiling(b, ours.Text)+moved)
		keeping = append(keeping, compiling(b, kept()))
	}
	var unchanged pairs
	for range unchangedPairs {
		unchanged.round(func() { without.Start(b) }, func() {
			if moved := with.Start(b).Report.Mounts; len(moved) > 0 {
				b.Fatalf("an unchanged build moves mounts: %+v", moved)
			}
		})
	}
	whole.report(b)
	b.ReportMetric(unchanged.ratio(), "unchanged-ratio")
	for i := range step.ours {
		step.ours[i] /= step.theirs[i]
		keeping[i] /= step.theirs[i]
	}
	b.ReportMetric(1000*median(step.theirs), "theirs-step-ms")
	b.ReportMetric(median(step.ours), "step-ratio")
	b.ReportMetric(median(keeping), "kept-step-ratio")
}

// compiling is how long the step took, in seconds, as it says.
func compiling(b *testing.B, text string) float64 {
	b.Helper()
	found := compiledIn.FindStringSubmatch(text)
	if found == nil {
		b.Fatalf("the step did not run:\n%s", text)
	}
	took, _ := strconv.ParseFloat(found[1], 64)
	return took / 1000
}

// serviceApp is a copy of this program's source with [service], whose base image it pushes.
func serviceApp(b *testing.B, registry string) string {
	b.Helper()
	bases := testkit.Bases(b, "service")
	testkit.Bases(b)
	debian, err := tarball.LayerFromFile(filepath.Join(bases, "debian.tar"))
	if err != nil {
		b.Fatal(err)
	}
	tools, err := tarball.LayerFromFile(filepath.Join(bases, "service.tar"))
	if err != nil {
		b.Fatal(err)
	}
	base := registry + "/go:1"
	testkit.PushImage(b, base, []string{"PATH=/usr/local/go/bin:/usr/bin:/bin", "HOME=/root", "GOPATH=/go", "CGO_ENABLED=0"}, debian, tools)
	app := filepath.Join(testkit.Temp(b), "app")
	// Tests are left out, and with them the apps that they build; what is generated is not in git.
	copies := exec.Command("sh", "-c", `mkdir "$1" && cd .. && git ls-files -z '*.go' '*.mod' '*.sum' '*.yml' '*.md' '*.json' '*.txt' ':!*_test.go' ':!testdata' ':!bin' | xargs -0 cp --parents -t "$1" && cp -r --parents internal/*/programs "$1"`, "sh", app)
	if out, err := copies.CombinedOutput(); err != nil {
		b.Fatalf("copy the source: %v\n%s", err, out)
	}
	testkit.Write(b, filepath.Join(app, "Dockerfile"), strings.ReplaceAll(service, "BASE", base))
	return app
}
