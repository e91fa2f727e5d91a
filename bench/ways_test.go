package bench

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// build is one build by one way.
type build struct {
	testing.TB        // ends after the build
	context    string // directory
	image      string // repository of the image, and of its cache in a registry: "127.0.0.1:5000/way"
	branch     string // "main"
	store      store
	way        string // which names the way's own caches in a shared store
}

// A way builds and pushes an image, on a new builder.
type way struct {
	name    string
	command string                             // what a user writes, with CAPITALS for what differs
	build   func(b build) (time.Duration, int) // how long it took, and how many steps were cached
	only    string                             // the only scenario in which it is of interest; "": all
}

var ways = []way{
	{"buildx", buildxCommand + " --cache-from OWN --cache-from MAIN --cache-to OWN,mode=max --push", buildxWay(documented), ""},
	{"buildx tuned", buildxCommand + " --provenance=false --cache-from OWN --cache-from MAIN --cache-to OWN,mode=max,compression=zstd" +
		" --output type=registry,compression=zstd", buildxWay(tuned), ""},
	{"buildx, own branch only", buildxCommand + " --cache-from OWN --cache-to OWN,mode=max --push", buildxWay(ownOnly), firstOfBranch},
	{"buildctl, our entries", "buildctl build --opt attest:provenance=mode=min --import-cache OWN --import-cache MAIN" +
		" --export-cache OWN,mode=max,compression=zstd,ignore-error=true --output type=image,push=true,name=IMAGE:BRANCH", buildctlWay, ""},
	{"warmlayer", "warmlayer build --tags IMAGE:BRANCH --push --cache CACHE", warmlayerWay(), ""},
	{"warmlayer tuned", "warmlayer build --tags IMAGE:BRANCH --push --cache CACHE --image-compression zstd --provenance=false",
		warmlayerWay("--image-compression", "zstd", "--provenance=false"), ""},
}

const buildxCommand = "docker buildx build --tag IMAGE:BRANCH"

// imports are the lines of the branch's own cache and of main's.
func (b build) imports() []string {
	if b.branch == "main" {
		return []string{b.store.line(b, "main")}
	}
	return []string{b.store.line(b, b.branch), b.store.line(b, "main")}
}

func flags(name string, values []string) (all []string) {
	for _, v := range values {
		all = append(all, name, v)
	}
	return all
}

func documented(b build) []string {
	return append(flags("--cache-from", b.imports()), "--cache-to", b.store.export(b)+",mode=max", "--push")
}

func tuned(b build) []string {
	return append(flags("--cache-from", b.imports()), "--cache-to", b.store.export(b)+",mode=max,compression=zstd", "--provenance=false",
		"--output", "type=registry,compression=zstd")
}

func ownOnly(b build) []string {
	return []string{"--cache-from", b.imports()[0], "--cache-to", b.store.export(b) + ",mode=max", "--push"}
}

// daemon starts an empty builder with the programs of moby/buildkit's image, which has pigz and not
// igzip (its Dockerfile, v0.34.2), and returns when it answers.
func (b build) daemon() string {
	return testkit.StartBuildkitdIn(b, []string{"CONTAINERD_DISABLE_IGZIP=1"})
}

// buildxWay counts the start of the daemon and the build. It does not count that buildx writes the
// builder's name down.
func buildxWay(settings func(build) []string) func(b build) (time.Duration, int) {
	return func(b build) (time.Duration, int) {
		env := map[string]string{"BUILDX_CONFIG": b.TempDir()}
		began := time.Now()
		address := b.daemon()
		started := time.Since(began)
		testkit.Buildx(b, env, "create", "--name", "here", "--driver", "remote", address)
		began = time.Now()
		args := append([]string{"build", "--builder", "here", "--progress", "plain", "--tag", b.image + ":" + b.branch}, settings(b)...)
		out := testkit.Buildx(b, env, append(args, b.context)...)
		return started + time.Since(began), cachedSteps(out)
	}
}

func buildctlWay(b build) (time.Duration, int) {
	began := time.Now()
	address := b.daemon()
	args := append(flags("--import-cache", b.imports()), "--opt", "attest:provenance=mode=min",
		"--export-cache", b.store.export(b)+",mode=max,compression=zstd,ignore-error=true",
		"--output", "type=image,push=true,name="+b.image+":"+b.branch)
	out := testkit.Buildctl(b, address, b.context, args...)
	return time.Since(began), cachedSteps(out)
}

// cachedSteps counts the steps that BuildKit's plain progress shows as cached.
func cachedSteps(progress string) int { return strings.Count(progress, " CACHED\n") }

// warmlayerWay is the program as a user of its image runs it, which starts and ends its builder.
func warmlayerWay(more ...string) func(b build) (time.Duration, int) {
	return func(b build) (time.Duration, int) {
		run := testkit.Invocation{
			Dir: b.context, Branch: b.branch,
			Env:  map[string]string{"BUILDX_NO_DEFAULT_ATTESTATIONS": "0", "PATH": testkit.ImagePath(b)},
			Args: append([]string{"--tags", b.image + ":" + b.branch, "--push", "--cache", b.store.ours(b)}, more...),
		}
		cmd, _ := run.Command(b)
		began := time.Now()
		out, err := cmd.CombinedOutput()
		took := time.Since(began)
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		return took, cachedSteps(string(out))
	}
}

// versions are those of the programs of a comparison, and the machine that they ran on.
func versions(b *testing.B) map[string]string {
	b.Helper()
	all := map[string]string{}
	for name, args := range map[string][]string{
		"buildkit": {"buildkitd", "--version"}, "buildx": {"buildx", "version"}, "pigz": {"unpigz", "--version"},
		"igzip": {"igzip", "--version"}, "runc": {"runc", "--version"}, "go": {"go", "env", "GOVERSION"},
		"warmlayer": {"git", "describe", "--always", "--dirty"},
	} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %v (make setup installs it)\n%s", args, err, out)
		}
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		all[name] = first
	}
	return all
}

// scope is a test whose servers and files end before the benchmark does.
type scope struct {
	testing.TB
	ends []func()
}

// Cleanup implements [testing.TB].
func (s *scope) Cleanup(f func()) { s.ends = append(s.ends, f) }

// TempDir implements [testing.TB].
func (s *scope) TempDir() string {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *scope) end() {
	for len(s.ends) > 0 {
		last := s.ends[len(s.ends)-1]
		s.ends = s.ends[:len(s.ends)-1]
		last()
	}
}

// within runs a function whose servers and files end with it.
func within(t testing.TB, do func(t testing.TB)) {
	s := &scope{TB: t}
	defer s.end()
	do(s)
}
