package upkeep

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// exporters is how many builds export while a prune runs.
const exporters = 20

// TestPruneBesideExports: whatever the timing, a prune takes nothing from exports that run at the same time, although they use blobs that are
// old and that no cache names any more. With WARMLAYER_SOAK there are 200 rounds.
func TestPruneBesideExports(t *testing.T) {
	t.Parallel()
	rounds := 3
	if os.Getenv("WARMLAYER_SOAK") != "" {
		rounds = 200
	}
	s3 := testkit.StartS3(t)
	azblob, clock := testkit.StartAzblobWithClock(t)
	// Each starts an empty store, and has a function that writes to it two days ago.
	for name, start := range map[string]func(t *testing.T) (line string, ago func(write func())){
		"local": func(t *testing.T) (string, func(func())) {
			dir := testkit.Temp(t)
			return "type=local,dest=" + dir, oldFiles(t, dir)
		},
		"s3": func(t *testing.T) (string, func(func())) {
			bucket := s3.New(t)
			return bucket.Line(""), oldFiles(t, filepath.Join(bucket.Dir, bucket.Bucket))
		},
		"azblob": func(t *testing.T) (string, func(func())) {
			return azblob.New(t).Line(""), func(write func()) {
				clock(-48 * time.Hour)
				write()
				clock(0)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			removed, reused := 0, 0
			for round := range rounds {
				line, ago := start(t)
				c, store := opened(t, cachespec.Environment{}, line)
				var blobs []string
				ago(func() { blobs = unnamed(t, store, round) })
				exported := exportBesidePrune(t, c, store, blobs, round)
				for n, contents := range exported {
					if got := has(t, store, contents...); got != strings.Join(contents, " ") {
						t.Fatalf("round %d: %s has %q of %q", round, n, got, contents)
					}
				}
				left := len(strings.Fields(has(t, store, blobs...)))
				reused, removed = reused+left, removed+len(blobs)-left
			}
			t.Logf("%d rounds: %d old blobs are used again, %d are removed", rounds, reused, removed)
			if removed == 0 || reused == 0 {
				t.Error("the rounds show nothing")
			}
		})
	}
}

// unnamed makes blobs that soon no cache names, and returns their contents, each one word.
func unnamed(t *testing.T, store backends.Store, round int) []string {
	t.Helper()
	var contents []string
	for i := range 2 * exporters {
		contents = append(contents, fmt.Sprintf("old-%d-%d", round, i))
	}
	populate(t, store, "b-gone", backends.Record{Time: time.Now().Add(-48 * time.Hour)}, contents...)
	return contents
}

// oldFiles makes the files of a store, in a directory, two days old once they are written.
func oldFiles(t *testing.T, dir string) func(write func()) {
	return func(write func()) {
		write()
		then := time.Now().Add(-48 * time.Hour)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "index") || d.Name() == "oci-layout" {
				return err
			}
			return os.Chtimes(path, then, then)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// exportBesidePrune begins a prune and exports in random order, and returns what each export has named.
func exportBesidePrune(t *testing.T, c Cache, store backends.Store, blobs []string, round int) map[scope.Name][]string {
	t.Helper()
	exported := map[scope.Name][]string{}
	var group sync.WaitGroup
	for i := range exporters {
		n := scope.Name(fmt.Sprintf("b-new%d_%d", round, i))
		contents := []string{fmt.Sprintf("new-%d-%d", round, i), blobs[i], blobs[rand.IntN(exporters)]}
		exported[n] = contents
		wait := time.After(time.Duration(rand.IntN(20)) * time.Millisecond)
		group.Go(func() {
			<-wait
			if err := testkit.Populate(t, store, n, backends.Record{Time: time.Now()}, contents...); err != nil {
				t.Errorf("round %d: export: %v", round, err)
			}
		})
	}
	group.Go(func() {
		rules := Rules{Gone: true, Grace: time.Hour}
		stock, err := Take(t.Context(), c)
		if err == nil {
			_, err = Prune(t.Context(), c, rules.Choose(stock, Refs{}, time.Now()), rules)
		}
		if err != nil {
			t.Errorf("round %d: prune: %v", round, err)
		}
	})
	group.Wait()
	return exported
}
