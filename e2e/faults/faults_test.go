// Package faults tries every fault of a cache's server: backend × fault × phase. Each cell builds with
// the fault, and then without it.
//
//	go test ./e2e/faults -run 'TestFaults/s3/500_in_upload'   # one cell
//	WARMLAYER_SOAK=1 go test ./e2e/faults                     # all of them
//
// A cell's build succeeds, its image is that of a build without a cache, its report has one warning
// for each side of the cache that could not be used, and the next good build mends the cache.
package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// apps are the app whose cache the stores have, the changed app that cells build, and its image.
type apps struct {
	first, changed string
	right          string // the digest of the image of changed, from a build without a cache
	files          string // its files, with their modes and digests
}

func newApps(t *testing.T) apps {
	t.Helper()
	a := apps{first: testkit.App(t), changed: testkit.App(t)}
	for _, app := range []string{a.first, a.changed} {
		testkit.Write(t, filepath.Join(app, "Dockerfile"), `FROM scratch AS base
ADD rootfs.tar /
FROM base AS tools
RUN seq 1 20000 > /tools
FROM base AS pages
COPY site site
RUN mkdir /www && cat site/*.txt > /www/index.html && seq 1 30000 >> /www/index.html
FROM base
COPY --from=tools /tools /tools
COPY --from=pages /www /www
`)
	}
	testkit.Write(t, filepath.Join(a.changed, "site", "index.txt"), "Changed\n\nThis page is another one.\n")
	plain, files := build(t, a.changed, testkit.Cache{Line: "none"})
	a.right, a.files = plain.Build(t).Digest, testkit.Files(t, files)
	return a
}

// build is a build of main with a cache, on an empty builder, and the files of its image. The image
// is equal byte for byte whoever runs its steps, and when; one with an inline cache has equal files.
func build(t *testing.T, app string, c testkit.Cache, args ...string) (r testkit.Invocation, files string) {
	t.Helper()
	dir := testkit.Temp(t)
	files = filepath.Join(dir, "files.tar")
	outputs := "type=tar,dest=" + files + "\n"
	if c.Line == "inline" {
		outputs += "type=image,push=true,name=" + c.Image + ":v1"
	} else {
		outputs += "type=oci,rewrite-timestamp=true,dest=" + filepath.Join(dir, "image.tar")
	}
	return testkit.Invocation{Dir: app, Branch: "main", Env: c.Env, Args: slices.Concat([]string{
		"--cache", c.Line, "--build-args", "SOURCE_DATE_EPOCH=1", "--outputs", outputs,
	}, args)}, files
}

func manifest(t *testing.T, c testkit.Cache) backends.Manifest {
	t.Helper()
	m, err := c.Scopes(t).Manifest(t.Context(), "b-main")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// largest is the layer that every step needs.
func largest(m backends.Manifest) digest.Digest {
	return slices.MaxFunc(m.Layers, func(a, b ocispecs.Descriptor) int { return int(a.Size - b.Size) }).Digest
}

// atOnce bounds the cells that run at the same time.
const atOnce = 4

func TestFaults(t *testing.T) {
	t.Parallel()
	a, slots, table := newApps(t), make(chan struct{}, atOnce), &outcomes{}
	t.Cleanup(func() { table.write(t) })
	for k, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			copied := kind.open(t, func(t *testing.T, c testkit.Cache) {
				first, _ := build(t, a.first, c)
				if r := first.Build(t); r.Outcome(t) != "written" {
					t.Fatalf("exports %+v", r.Exports)
				}
			})
			for n, f := range kind.faults {
				for _, in := range sample(kind, f, k+n) {
					t.Run(f.name+" in "+string(in), func(t *testing.T) {
						t.Parallel()
						slots <- struct{}{}
						defer func() { <-slots }()
						c := cell{kind, f, in}
						table.add(c, c.run(t, a, copied, n%2 == 0))
					})
				}
			}
		})
	}
}

// soak asks for all cells, in the normal and in the strict mode.
var soak = os.Getenv("WARMLAYER_SOAK") != ""

// turns is of how many faults one is tried without WARMLAYER_SOAK.
const turns = 3

// sample are the phases in which a fault is tried: all with WARMLAYER_SOAK, else one of every third
// fault, in rotation. So every fault is tried with some kinds of cache, and every kind has each phase.
func sample(k kind, f fault, turn int) []phase {
	all := slices.DeleteFunc(slices.Clone(phases), func(p phase) bool { return cell{k, f, p}.without() != "" })
	switch {
	case soak:
		return all
	case len(all) == 0 || turn%turns != 0:
		return nil
	}
	return []phase{all[turn%len(all)]}
}

// without is why a cell does not exist; "" when it does.
func (c cell) without() string {
	objects := slices.Contains([]string{"s3", "azblob", "gha"}, c.kind.name)
	lost := c.name == "connection refused" || c.name == "token expires half-way"
	switch {
	case !slices.Contains(c.in, c.phase):
		return c.not
	case c.kind.not[c.phase] != "":
		return c.kind.not[c.phase]
	case c.kind.name == "inline" && lost:
		return "the image is in that registry too: a fault that lasts is one of its push, which fails the build"
	case c.phase == importing && c.body && objects:
		return "blobs are looked up without their contents"
	case c.phase == importing && c.manifest && objects:
		return "BuildKit gets the manifest from the gateway"
	}
	return ""
}

// cell is one fault of one kind of cache in one phase.
type cell struct {
	kind kind
	fault
	phase phase
}

// run tries a cell, and returns what happened.
func (c cell) run(t *testing.T, a apps, copied func(*testing.T) *store, strict bool) string {
	s := copied(t)
	said, texts := c.broken(t, a, s, strict), ""
	for n := 1; ; n++ {
		good := c.build(t, a, s.cache, "--cache-strict")
		r := good.Report
		said, texts = said+" → "+observe(good), texts+good.Text
		if good.Code == 0 && r.Cached() == len(r.Steps) && r.Source("b-main") == "loaded" && r.Outcome(t) == "unchanged" {
			break
		}
		if n == c.mending() {
			t.Errorf("not mended: %s\n%s", said, texts)
			break
		}
	}
	if soak {
		c.broken(t, a, copied(t), !strict)
	}
	return said
}

// mending is the number of good builds after which the cache must be as it was. BuildKit may find a cached
// step by its content or by its definition first, and an inline cache, hence the image, then differs once
// in a thousand builds.
func (c cell) mending() int {
	if c.kind.name == "inline" {
		return 3
	}
	return 2
}

// patient says whether BuildKit itself waits for the store to get well: its client of GitHub's cache
// makes a request to the storage eleven times, with ten seconds and more between
// (go-actions-cache v0.0.0-20260120203934, cache_v2.go, azureOptions).
func (c cell) patient() bool {
	if c.kind.cache() == "gha" && c.name == "429" {
		return true // the client repeats it until its own timeout
	}
	return c.kind.name == "remote gha" && slices.Contains([]phase{importing, extracting, uploading, committing}, c.phase) &&
		!strings.HasSuffix(c.name, " once")
}

// broken builds with the fault.
func (c cell) broken(t *testing.T, a apps, s *store, strict bool) string {
	c.set(t, s, c.phase)
	args := []string{"--cache-strict=" + strconv.FormatBool(strict)}
	if c.slow || c.patient() {
		args = append(args, short...)
	}
	out := c.build(t, a, s.cache, args...)
	requests := s.mend(t)
	said := observe(out)
	t.Logf("%d requests met it\n%s", len(requests), said)
	c.check(t, out, strict)
	c.checkTries(t, requests)
	return said
}

// build builds the changed app on an empty builder, and checks its image.
func (c cell) build(t *testing.T, a apps, from testkit.Cache, args ...string) testkit.Output {
	t.Helper()
	if c.kind.remote {
		args = append(args, "--builder", testkit.StartBuildkitd(t))
	}
	r, files := build(t, a.changed, from, args...)
	out := r.Start(t)
	if !out.Report.OK {
		return out
	}
	if got := testkit.Files(t, files); got != a.files {
		t.Errorf("the image's files are\n%s\nwant\n%s", got, a.files)
	}
	if out.Report.Digest != a.right && from.Line != "inline" {
		t.Errorf("image %s, want %s:\n%s", out.Report.Digest, a.right, out.Text)
	}
	return out
}

// mend ends the fault, and returns the requests that met it.
func (s *store) mend(t *testing.T) []string {
	var requests []string
	for _, p := range s.proxies {
		requests = append(requests, p.Mend(t)...)
	}
	for _, end := range slices.Backward(s.lift) {
		end()
	}
	return requests
}

// observe is what a report says of its cache, in short.
func observe(out testkit.Output) string {
	var parts []string
	for _, s := range out.Report.Sources {
		parts = append(parts, strings.TrimSpace("read "+s.State+" "+s.Error))
	}
	for _, e := range out.Report.Exports {
		parts = append(parts, strings.TrimSpace("write "+e.Outcome+" "+e.Error))
	}
	if out.Report.Retried != "" {
		parts = append(parts, "retried")
	}
	return fmt.Sprintf("exit %d, %d of %d cached, %s", out.Code, out.Report.Cached(), len(out.Report.Steps), strings.Join(parts, ", "))
}

// outcomes is the table of what happened.
type outcomes struct {
	mu   sync.Mutex
	rows []string
}

func (o *outcomes) add(c cell, said string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rows = append(o.rows, fmt.Sprintf("| %s | %s | %s | %s |", c.kind.name, c.name, c.phase, said))
}

// write writes the table as Markdown into the file that WARMLAYER_FAULTS names, with the cells that
// do not exist, and why.
func (o *outcomes) write(t *testing.T) {
	for _, k := range kinds {
		for _, f := range k.faults {
			for _, p := range phases {
				if c := (cell{k, f, p}); c.without() != "" {
					o.add(c, "does not exist: "+c.without())
				}
			}
		}
	}
	slices.Sort(o.rows)
	if path := os.Getenv("WARMLAYER_FAULTS"); path != "" {
		testkit.Write(t, path, "| backend | fault | phase | outcome |\n| --- | --- | --- | --- |\n"+strings.Join(o.rows, "\n")+"\n")
	}
}
