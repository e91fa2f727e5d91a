package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

var results = flag.String("results", "", "file that the comparison of `BenchmarkPeers` is added to")

// A store holds the caches of all ways.
type store struct {
	line   func(b build, branch string) string // BuildKit's import of a branch's cache
	export func(b build) string                // BuildKit's export to the branch's cache, without settings
	ours   func(b build) string                // warmlayer's cache line
}

// registryStore is the image's own repository.
var registryStore = store{
	line:   func(b build, branch string) string { return "type=registry,ref=" + b.image + ":cache-" + branch },
	export: func(b build) string { return "type=registry,ref=" + b.image + ":cache-" + b.branch },
	ours:   func(b build) string { return "type=registry,ref=" + b.image },
}

// localStore is a directory that stays on the machine.
func localStore(t testing.TB) store {
	dir := testkit.Temp(t)
	return store{
		line:   func(b build, branch string) string { return "type=local,src=" + filepath.Join(dir, b.way, branch) },
		export: func(b build) string { return "type=local,dest=" + filepath.Join(dir, b.way, b.branch) },
		ours:   func(b build) string { return "type=local,dest=" + filepath.Join(dir, b.way) },
	}
}

// objectStore is a store of several names.
func objectStore(open lines) store {
	name := func(line, way, branch string) string {
		attribute := ",name="
		if strings.HasPrefix(line, "type=gha") {
			attribute = ",scope="
		}
		return line + attribute + strings.Trim(way+"-"+branch, "-")
	}
	return store{
		line:   func(b build, branch string) string { return name(open(b.branch, "main"), b.way, branch) },
		export: func(b build) string { return name(open(b.branch, "main"), b.way, b.branch) },
		ours:   func(b build) string { return name(open(b.branch, "main"), b.way, "") },
	}
}

const firstOfBranch = "first build of a branch"

// scenarios follow each other on the caches of one round.
var scenarios = []struct {
	name, branch string
	edit         func(app)
}{
	{"cold", "main", func(app) {}},
	{"unchanged", "main", func(app) {}},
	{firstOfBranch, "feature", func(app) {}},
	{"code change", "main", func(a app) { a.change("code") }},
	{"dependency change", "main", func(a app) { a.change("deps") }},
}

// BenchmarkPeers builds each scenario by all ways, one after another, and begins each round with
// another way, a new registry and new caches. Every build has an empty builder, whose start counts. A
// registry's round trips take longer in the comparisons with a network; those with s3, azblob and gha
// have a fast registry, since the stores are compared.
func BenchmarkPeers(b *testing.B) {
	testkit.Program(b)
	layer, err := tarball.LayerFromFile(filepath.Join(testkit.Bases(b, "runtime"), "runtime.tar"), tarball.WithCompressedCaching)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		backend   string
		workloads []string
		roundTrip []time.Duration
	}{
		{"registry", []string{"app", "many", "mono", "fat"}, []time.Duration{0, roundTrip}},
		{"local", []string{"app"}, []time.Duration{0}},
		{"s3", []string{"app"}, []time.Duration{roundTrip}},
		{"azblob", []string{"app"}, []time.Duration{roundTrip}},
		{"gha", []string{"app"}, []time.Duration{roundTrip}},
	} {
		for _, workload := range c.workloads {
			for _, trip := range c.roundTrip {
				p := &peers{layer: layer, trip: trip, group: Group{Backend: c.backend, Workload: workload, Network: "loopback"}}
				if trip > 0 {
					p.group.Network = trip.String()
				}
				b.Run(p.group.Name(), p.run)
			}
		}
	}
}

// peers is one comparison.
type peers struct {
	layer v1.Layer
	trip  time.Duration
	group Group
	round int
}

func (p *peers) run(b *testing.B) {
	g := &p.group
	g.Machine, g.Made, g.Versions = machine(b), time.Now().UTC().Format(time.DateOnly), versions(b)
	for _, w := range ways {
		g.Ways = append(g.Ways, Way{w.name, w.command})
	}
	for b.Loop() {
		within(b, p.once)
		p.round++
	}
	b.ReportMetric(0, "ns/op") // of a whole round, which is of no interest
	for _, s := range scenarios {
		for _, w := range ways {
			if ratio := g.Ratio(s.name, w.name, "buildx"); ratio > 0 {
				b.Logf("%-24s %-24s %6.2f s %5.2f cached %v", s.name, w.name, Median(g.Find(s.name, w.name).Seconds), ratio, g.Find(s.name, w.name).Cached)
			}
		}
	}
	if *results != "" {
		if err := g.Save(*results); err != nil {
			b.Fatal(err)
		}
	}
}

// once is a round.
func (p *peers) once(t testing.TB) {
	registry, caches := p.open(t)
	base := registry + "/debian:1"
	testkit.PushImage(t, base, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, p.layer)
	a := newApp(t, p.group.Workload, base)
	for _, s := range scenarios {
		s.edit(a)
		for i := range ways {
			w := ways[(i+p.round)%len(ways)]
			if w.only != "" && w.only != s.name {
				continue
			}
			within(t, func(t testing.TB) {
				repository := strings.NewReplacer(" ", "-", ",", "").Replace(w.name)
				took, cached := w.build(build{t, a.dir, registry + "/" + repository, s.branch, caches, repository})
				p.group.Add(s.name, w.name, took.Seconds(), cached)
			})
		}
	}
}

// open starts the registry and the store of a round.
func (p *peers) open(t testing.TB) (registry string, caches store) {
	registry = testkit.StartRegistry(t).Host
	switch p.group.Backend {
	case "registry":
		if p.trip > 0 {
			registry = testkit.Delay(t, registry, p.trip)
		}
		return registry, registryStore
	case "local":
		return registry, localStore(t)
	}
	for _, s := range objectStores {
		if s.name == p.group.Backend {
			return registry, objectStore(s.open(t, p.trip))
		}
	}
	t.Fatalf("no store %s", p.group.Backend)
	return "", store{}
}

// machine is the machine of a comparison: "2 × AMD EPYC 7B13, 24 GB, Linux 6.1.0".
func machine(b *testing.B) string {
	b.Helper()
	var system unix.Utsname
	var memory unix.Sysinfo_t
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		err = unix.Uname(&system)
	}
	if err == nil {
		err = unix.Sysinfo(&memory)
	}
	if err != nil {
		b.Fatal(err)
	}
	_, model, _ := strings.Cut(string(cpu), "model name\t: ")
	model, _, _ = strings.Cut(model, "\n")
	return fmt.Sprintf("%d × %s, %d GB, Linux %s", runtime.NumCPU(), model, memory.Totalram*uint64(memory.Unit)>>30, unix.ByteSliceToString(system.Release[:]))
}
