package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// images is how many images a repository has.
const images = 20

// manyImages is a Dockerfile of many images, which have a stage in common.
const manyImages = `FROM scratch AS base
ADD rootfs.tar /
RUN dd if=/dev/urandom of=/deps bs=1M count=8
FROM base AS build
ARG NAME
COPY services/$NAME /src
RUN md5sum /src > /out && sleep 0.3
FROM base
COPY --from=build /out /out
`

// BenchmarkBake is a repository of images, which are pushed to a registry: each by a run of its own, one after another (theirs), and all
// by one run with a bake file (ours): all of them cold, and as the first build of a branch.
func BenchmarkBake(b *testing.B) {
	for _, branch := range []string{"cold", "branch"} {
		b.Run(branch, func(b *testing.B) {
			var times pairs
			for b.Loop() {
				r := newRepository(b)
				name := "main"
				if branch == "branch" {
					r.single(b, name)
					r.bake(b, name)
					name = "feature"
				}
				times.round(func() { r.single(b, name) }, func() { r.bake(b, name) })
			}
			times.report(b)
		})
	}
}

// repository is a checkout, and a registry.
type repository struct{ dir, registry string }

func newRepository(b *testing.B) repository {
	b.Helper()
	r := repository{testkit.App(b), testkit.StartRegistry(b).Host}
	testkit.Write(b, filepath.Join(r.dir, "Dockerfile"), manyImages)
	numbers := make([]string, images)
	for i := range images {
		numbers[i] = fmt.Sprintf("%q", fmt.Sprint("s", i))
	}
	testkit.Write(b, filepath.Join(r.dir, "docker-bake.hcl"), `target "default" {
  name = n
  matrix = { n = [`+strings.Join(numbers, ", ")+`] }
  args = { NAME = n }
  tags = ["`+r.registry+`/baked/${n}:1"]
}
`)
	if err := os.MkdirAll(filepath.Join(r.dir, "services"), 0o755); err != nil {
		b.Fatal(err)
	}
	for i := range images {
		testkit.Write(b, filepath.Join(r.dir, "services", fmt.Sprint("s", i)), strings.Repeat(fmt.Sprint(i, "\n"), 50_000))
	}
	return r
}

// run runs the program, and fails unless all steps are cached on a branch.
func (r repository) run(b *testing.B, branch string, args ...string) {
	b.Helper()
	report := testkit.Invocation{Dir: r.dir, Branch: branch, Env: map[string]string{"PATH": testkit.ImagePath(b)}, Args: append(args, "--push")}.Build(b)
	if branch != "main" && report.Cached() != len(report.Steps) {
		b.Fatalf("%d of %d steps are cached", report.Cached(), len(report.Steps))
	}
}

func (r repository) single(b *testing.B, branch string) {
	b.Helper()
	for i := range images {
		r.run(b, branch, "--build-args", fmt.Sprint("NAME=s", i), "--tags", fmt.Sprint(r.registry, "/single/s", i, ":1"))
	}
}

func (r repository) bake(b *testing.B, branch string) {
	b.Helper()
	r.run(b, branch, "--targets", "default")
}
