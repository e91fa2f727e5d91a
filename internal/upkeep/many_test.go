package upkeep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// layersOfScope is how many layers each scope of a large store has, which no other has.
const layersOfScope = 20

// layersOf are the contents of the layers of a scope.
func layersOf(i int) []string {
	var all []string
	for n := range layersOfScope {
		all = append(all, fmt.Sprintf("scope %d layer %d", i, n))
	}
	return all
}

// fill makes many scopes, of which every second belongs to a branch that exists, and returns the repository with these branches. A directory, whose index is
// written anew with each scope, gets its index once.
func fill(t testing.TB, b backends.Backend, scopes int) (repository string) {
	t.Helper()
	store := b.(backends.GatewayWritten).Destination()
	dir := ""
	if b.Type() == "local" {
		dir = b.Dirs()[0]
	}
	index := ocispecs.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex, Manifests: make([]ocispecs.Descriptor, scopes)}
	eg, ctx := errgroup.WithContext(t.Context())
	eg.SetLimit(32)
	for i := range scopes {
		eg.Go(func() error {
			n := scope.Name(fmt.Sprintf("b-branch%d", i))
			m, blobs := testkit.Layered(t, backends.Record{Branch: fmt.Sprintf("branch%d", i), Time: time.Now().Add(-time.Hour), Mode: "max"}, layersOf(i)...)
			for _, b := range m.Blobs() {
				if err := store.Put(ctx, b, bytes.NewReader(blobs[b.Digest])); err != nil {
					return err
				}
			}
			if dir == "" {
				return store.PutManifest(ctx, n, m)
			}
			index.Manifests[i] = m.Descriptor()
			index.Manifests[i].Annotations = map[string]string{ocispecs.AnnotationRefName: string(n)}
			return store.Put(ctx, m.Descriptor(), bytes.NewReader(m.Raw))
		})
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
	if dir != "" {
		text, err := json.Marshal(index)
		if err != nil {
			t.Fatal(err)
		}
		testkit.Write(t, filepath.Join(dir, ocispecs.ImageIndexFile), string(text))
	}
	return packed(t, scopes)
}

// packed is a bare repository with every second of the branches, in the file that git itself packs refs into.
func packed(t testing.TB, scopes int) string {
	t.Helper()
	dir := repositoryAt(t, t.TempDir(), "main")
	out, err := exec.Command("git", "-C", dir, "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	var refs strings.Builder
	for i := 0; i < scopes; i += 2 {
		fmt.Fprintf(&refs, "%s refs/heads/branch%d\n", strings.TrimSpace(string(out)), i)
	}
	testkit.Write(t, filepath.Join(dir, ".git", "packed-refs"), refs.String())
	return dir
}

// ran is a run of the program: its output, time and largest resident set in bytes.
type ran struct {
	text   string
	took   time.Duration
	memory int64
}

func run(t testing.TB, args ...string) ran {
	t.Helper()
	cmd := exec.Command(testkit.Program(t), args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	peak := make(chan int64)
	go func() { peak <- largest(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	close(ended)
	if memory := <-peak; err == nil {
		return ran{out.String(), time.Since(began), memory}
	}
	t.Fatalf("%v: %v\n%s%s", args, err, tail(out.String()), tail(said.String()))
	return ran{}
}

// largest is the largest resident set of a process, in bytes, as it was last read before its end. What wait4 says of a process counts
// that of the process which has started it, too.
func largest(pid int, ended chan struct{}) (peak int64) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // it may have ended
		for line := range strings.Lines(string(status)) {
			var kib int64
			if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
				peak = max(peak, kib<<10)
			}
		}
		select {
		case <-ended:
			return peak
		case <-tick.C:
		}
	}
}

func tail(text string) string { return text[max(0, len(text)-2000):] }

// sift lists and prunes a store with many scopes by the program, and checks what is there afterwards.
func sift(t testing.TB, line string, scopes int) (list, pruned ran) {
	t.Helper()
	b := testkit.Backend(t, cachespec.Environment{}, line)
	repository := fill(t, b, scopes)
	list = run(t, "ls", "--json", "--cache", line)
	var listed []Listed
	if err := json.Unmarshal([]byte(list.text), &listed); err != nil || len(listed) != 1 || len(listed[0].Scopes) != scopes {
		t.Fatalf("%v: %s", err, tail(list.text))
	}
	pruned = run(t, "prune", "--gone", "--grace", "1ms", "--trusted", "--repository", repository, "--cache", line)
	if want := fmt.Sprintf("removed %d scopes and %d blobs", scopes/2, scopes/2*layersOfScope+extraBlobs(b, scopes/2)); !strings.Contains(pruned.text, want) {
		t.Fatalf("want %q:\n%s", want, tail(pruned.text))
	}
	check(t, b.Scopes(), scopes)
	return list, pruned
}

// extraBlobs are the blobs beside the layers: a directory keeps manifests and configs as blobs.
func extraBlobs(b backends.Backend, scopes int) int {
	if b.Type() == "local" {
		return 2 * scopes
	}
	return 0
}

// check reads all scopes: those of branches that exist are whole, and of the others neither manifest nor layers are there.
func check(t testing.TB, store backends.Scopes, scopes int) {
	t.Helper()
	eg, ctx := errgroup.WithContext(t.Context())
	eg.SetLimit(32)
	for i := range scopes {
		eg.Go(func() error { return checkScope(ctx, t, store, i) })
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
}

func digests(layers []ocispecs.Descriptor) []digest.Digest {
	var all []digest.Digest
	for _, l := range layers {
		all = append(all, l.Digest)
	}
	return all
}

func checkScope(ctx context.Context, t testing.TB, store backends.Scopes, i int) error {
	m, err := store.Manifest(ctx, scope.Name(fmt.Sprintf("b-branch%d", i)))
	exists := i%2 == 0
	if exists && err != nil || !exists && !errors.Is(err, backends.ErrAbsent) {
		return fmt.Errorf("branch%d: %w", i, err)
	}
	expected, _ := testkit.Layered(t, backends.Record{}, layersOf(i)...)
	there, err := store.Stat(ctx, digests(expected.Layers))
	if err == nil && exists != (len(there) == layersOfScope) || !exists && len(there) > 0 || exists && len(m.Layers) != layersOfScope {
		err = fmt.Errorf("branch%d has %d layers", i, len(there))
	}
	return err
}

// TestManyScopes: with many scopes, `warmlayer ls` and `warmlayer prune` find all, and leave what exists whole.
func TestManyScopes(t *testing.T) {
	t.Parallel()
	for name, line := range stores(t) {
		if name == "registry" {
			continue // see TestStores
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sift(t, line, 120)
		})
	}
}

// BenchmarkManyScopes takes the time and the memory of both with ten thousand scopes and two hundred thousand layers.
func BenchmarkManyScopes(b *testing.B) {
	for _, name := range []string{"local", "s3", "azblob"} {
		b.Run(name, func(b *testing.B) {
			line := map[string]func() string{
				"local":  func() string { return "type=local,dest=" + testkit.Temp(b) },
				"s3":     func() string { return testkit.StartS3(b).Line(",touch_refresh=0s") },
				"azblob": func() string { return testkit.StartAzblob(b).Line(",touch_refresh=0s") },
			}[name]
			for b.Loop() {
				list, pruned := sift(b, line(), 10_000)
				b.ReportMetric(list.took.Seconds(), "ls-s")
				b.ReportMetric(float64(list.memory)/1e6, "ls-MB")
				b.ReportMetric(pruned.took.Seconds(), "prune-s")
				b.ReportMetric(float64(pruned.memory)/1e6, "prune-MB")
			}
		})
	}
}
