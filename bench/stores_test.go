package bench

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// roundTrip is the round trip time between a CI's machine and an object store in the same region.
const roundTrip = 40 * time.Millisecond

// lines writes a cache line for a run of a branch, which may read the scopes of other branches too.
type lines func(branch string, others ...string) string

// objectStores are the caches for which BuildKit has its own backend, which a managed builder does
// not use. Each is an empty store behind a proxy that adds the round trip time.
var objectStores = []struct {
	name string
	open func(b testing.TB, roundTrip time.Duration) lines
}{
	{"s3", func(b testing.TB, roundTrip time.Duration) lines {
		s := testkit.StartS3(b)
		s.Endpoint = delayed(b, s.Endpoint, roundTrip)
		return func(string, ...string) string { return s.Line("") }
	}},
	{"azblob", func(b testing.TB, roundTrip time.Duration) lines {
		a := testkit.StartAzblob(b)
		a.Service = delayed(b, a.Service, roundTrip)
		return func(string, ...string) string { return a.Line("") }
	}},
	{"gha", func(b testing.TB, roundTrip time.Duration) lines {
		g := testkit.StartGHABehind(b, func(url string) string { return delayed(b, url, roundTrip) })
		return func(branch string, others ...string) string {
			var refs []string
			for _, one := range others {
				refs = append(refs, "refs/heads/"+one)
			}
			return "type=gha,version=2,url_v2=" + g.URL + "/,token=" + g.Token("refs/heads/"+branch, refs...)
		}
	}},
}

func delayed(b testing.TB, url string, roundTrip time.Duration) string {
	b.Helper()
	address, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return strings.TrimSuffix("http://"+testkit.Delay(b, address, roundTrip)+"/"+path, "/")
}

// BenchmarkStores is a build on an empty builder, through the gateway with its defaults and through
// BuildKit's own backend with its defaults. All steps are cached (mode=max). Both times include the
// start of the builder.
func BenchmarkStores(b *testing.B) {
	for _, store := range objectStores {
		for _, build := range []struct {
			name string
			edit func(*sides) // before each round
		}{
			{"cold", func(s *sides) { s.scope = rand.Text() }},
			{"code change", (*sides).edit},
			{"unchanged", func(*sides) {}},
		} {
			b.Run(store.name+"/"+build.name, func(b *testing.B) {
				s := newSides(b, store.open(b, roundTrip)("main"))
				s.buildctl()
				s.warmlayer()
				for b.Loop() {
					build.edit(s)
					s.pairs.round(s.buildctl, s.warmlayer)
				}
				s.pairs.report(b)
			})
		}
	}
}

// sides are two ways to build one app, each with its own scope in one store.
type sides struct {
	b          *testing.B
	app, image string
	line       string // cache line, without a name
	scope      string // part of its name
	pairs      pairs
}

// newSides makes the layers of a typical compiled application: a base image of 60 MB (a part of
// Go's source, and its command), dependencies, and code. The compiler's output is in the cache, and
// only the result is in the image.
func newSides(b *testing.B, line string) *sides {
	b.Helper()
	s := &sides{b: b, image: testkit.StartRegistry(b).Host + "/app", line: line, scope: "x"}
	base := toolchain(b)
	testkit.Buildctl(b, testkit.StartBuildkitd(b), base, "--output", "type=image,push=true,name="+s.image+":base")
	s.app = filepath.Join(testkit.Temp(b), "app")
	if err := os.MkdirAll(s.app, 0o755); err != nil {
		b.Fatal(err)
	}
	testkit.Write(b, filepath.Join(s.app, "Dockerfile"), fmt.Sprintf(compiled, s.image+":base"))
	testkit.Write(b, filepath.Join(s.app, "deps.txt"), "crypto net")
	s.edit()
	return s
}

const compiled = `FROM %[1]s AS deps
COPY deps.txt /
RUN mkdir /deps && for d in $(cat deps.txt); do cp -r /go/$d /deps/; done
FROM deps AS app
COPY page.txt /
RUN mkdir /objects /out && cp -r /deps/* /objects && cat /go/bin/gofmt page.txt > /objects/archive && cat /go/bin/go page.txt > /out/app
FROM scratch
COPY --from=app /out/app /app
`

// toolchain is the context of the base image.
func toolchain(b *testing.B) string {
	b.Helper()
	dir := filepath.Join(testkit.Temp(b), "base")
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	root := strings.TrimSpace(string(out))
	for to, from := range map[string]string{
		"": testkit.App(b), "go/bin": filepath.Join(root, "bin"),
		"go/net": filepath.Join(root, "src", "net"), "go/go": filepath.Join(root, "src", "go"),
		"go/crypto": filepath.Join(root, "src", "crypto"), "go/runtime": filepath.Join(root, "src", "runtime"),
	} {
		if err := os.CopyFS(filepath.Join(dir, to), os.DirFS(from)); err != nil {
			b.Fatal(err)
		}
	}
	testkit.Write(b, filepath.Join(dir, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCOPY go /go\n")
	return dir
}

func (s *sides) buildctl() {
	cache := s.line + ",mode=max," + s.named("theirs")
	testkit.Buildctl(s.b, testkit.StartBuildkitd(s.b), s.app, "--import-cache", cache, "--export-cache", cache,
		"--output", "type=image,push=true,name="+s.image+":theirs")
}

func (s *sides) warmlayer() {
	testkit.Invocation{Dir: s.app, Branch: "main", Args: []string{
		"--tags", s.image + ":ours", "--push", "--cache", s.line + "," + s.named("ours"),
	}}.Build(s.b)
}

// named is the attribute that separates the two sides, and the rounds.
func (s *sides) named(side string) string {
	if strings.HasPrefix(s.line, "type=gha") {
		return "scope=" + side + "-" + s.scope
	}
	return "name=" + side + "-" + s.scope
}

func (s *sides) edit() {
	testkit.Write(s.b, filepath.Join(s.app, "page.txt"), rand.Text())
}
