package cacheplan_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/labels"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// writersAtOnce is the number of builds that end in the same moment.
const writersAtOnce = 8

// Eight builds of a matrix end at once, several times: the scope has all eight afterwards, in
// every store. A registry has no conditional PUT, so that a build which is held up between its look
// and its PUT can still replace another one: here that may happen once, and in one of ten rounds more. With WARMLAYER_SOAK there
// are 20 rounds.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	rounds := 2
	if os.Getenv("WARMLAYER_SOAK") != "" {
		rounds = 20
	}
	for name, line := range map[string]string{
		"local":    "type=local,dest=" + t.TempDir(),
		"s3":       testkit.StartS3(t).Line(""),
		"azblob":   testkit.StartAzblob(t).Line(""),
		"registry": "type=registry,ref=" + testkit.StartRegistry(t).Host + "/o/app",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := real(t, nil, line)
			lost := 0
			for round := range rounds {
				writeAtOnce(t, cache, round)
				c := present(t, cache)
				variants := map[string]bool{}
				for _, b := range c.Builds {
					variants[b.Variant] = true
				}
				steps := map[digest.Digest]bool{}
				for _, r := range c.Config.Records {
					steps[r.Digest] = true
				}
				for i := range writersAtOnce {
					if !variants[fmt.Sprint(i)] || !steps[testkit.RecordDigest(step(i, round))] {
						t.Logf("round %d: writer %d is lost", round, i)
						lost++
					}
				}
			}
			t.Logf("%d of %d are lost", lost, rounds*writersAtOnce)
			if lost > 0 && name != "registry" || lost > 1+rounds/10 {
				t.Fail()
			}
		})
	}
}

// A store may say that another build has written, though none has: once, because it answered late,
// or each time, because it cannot compare.
func TestRefusedSwap(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		refusals int
		note     string
	}{{1, ""}, {2, ""}, {1000, "which has not changed"}} {
		cache := newMemoryCache("near")
		cache.Refusals = test.refusals
		err := export(t, cache, "0", testkit.NewGraph("base", "app: base"))()
		if (test.note == "") != (err == nil) || !strings.Contains(fmt.Sprint(err), test.note) {
			t.Errorf("%d refusals: %v, want %q", test.refusals, err, test.note)
		}
		if c := present(t, cache); len(c.Builds) != 1 {
			t.Errorf("%d refusals: the scope has %d builds", test.refusals, len(c.Builds))
		}
	}
}

// A build that another one has kept is not written again: the two would overwrite each other in turn.
func TestKeptByAnother(t *testing.T) {
	t.Parallel()
	cache := newMemoryCache("near")
	cache.Succeeded = 2
	if err := export(t, cache, "0", testkit.NewGraph("base", "app: base"))(); err != nil || cache.Succeeded != 1 {
		t.Errorf("%v, written %d times", err, 2-cache.Succeeded)
	}
}

func step(writer, round int) string { return fmt.Sprintf("writer %d round %d", writer, round) }

// present is the cache that is in the scope, all blobs of which are there.
func present(t *testing.T, cache backends.Backend) cachegraph.Cache {
	t.Helper()
	r := backends.Read(t.Context(), []backends.Backend{cache}, mainPlan, time.Minute)[0]
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	c, err := cachegraph.Parse(r.Config, r.Manifest.Layers)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var mainPlan = scope.Plan{Write: "b-main", Read: []scope.Source{{Name: "b-main", Why: "own branch"}}}

// writeAtOnce exports a build of each variant, all of which are committed at the same time.
func writeAtOnce(t *testing.T, cache backends.Backend, round int) {
	t.Helper()
	var commits []func() error
	for i := range writersAtOnce {
		commits = append(commits, export(t, cache, fmt.Sprint(i), testkit.NewGraph("base", step(i, round)+": base")))
	}
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for _, commit := range commits {
		wg.Go(func() {
			<-begin
			if err := commit(); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		})
	}
	close(begin)
	wg.Wait()
}

// sent is the cache of a build as BuildKit sends it, and its blobs.
func sent(t *testing.T, g testkit.Graph) (backends.Manifest, map[digest.Digest][]byte) {
	t.Helper()
	m, config, blobs := g.Cache(t, "me")
	layers := m.Layers
	for n := range layers {
		layers[n].Annotations = map[string]string{labels.LabelUncompressed: layers[n].Digest.String()}
	}
	m, err := backends.NewManifest(config, layers, backends.Record{})
	if err != nil {
		t.Fatal(err)
	}
	return m, blobs
}

// export sends the cache of a build as BuildKit does, and returns its commit.
func export(t *testing.T, cache backends.Backend, variant string, g testkit.Graph) (commit func() error) {
	t.Helper()
	m, blobs := sent(t, g)
	gateway := testkit.Gateway(t)
	d := cacheplan.New(cacheplan.Request{
		Caches: []backends.Backend{cache}, Await: found(backends.Read(t.Context(), []backends.Backend{cache}, mainPlan, time.Minute)),
		Scopes: mainPlan, Record: record, Gateway: gateway, Variant: variant,
		Keep: cacheplan.Limits{Age: time.Hour, Variants: writersAtOnce, Percent: 100_000},
	}).Destinations()[0]
	made := cacheplan.Exported{Content: m.Config.Digest.String(), Manifest: m.Descriptor().Digest}
	if ref, untagged := strings.CutSuffix(d.Entry.Attrs["ref"], "@sha256:"+strings.Repeat("0", 64)); untagged {
		pushUntagged(t, cache.Scopes().(backends.Store), ref, m, blobs)
	} else {
		for _, desc := range m.Blobs() {
			pushBlob(t, gateway, desc, blobs[desc.Digest])
		}
		put(t, gateway, "/v2/d0/manifests/b-main", string(m.Raw))
	}
	return func() error {
		return outcomes(d.Commit(t.Context(), made))[0]
	}
}

// pushUntagged pushes a cache to a registry by its digest.
func pushUntagged(t *testing.T, store backends.Store, repository string, m backends.Manifest, blobs map[digest.Digest][]byte) {
	t.Helper()
	for _, desc := range m.Blobs() {
		if err := store.Put(t.Context(), desc, strings.NewReader(string(blobs[desc.Digest]))); err != nil {
			t.Fatal(err)
		}
	}
	host, path, _ := strings.Cut(repository, "/")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
		"http://"+host+"/v2/"+path+"/manifests/"+m.Descriptor().Digest.String(), strings.NewReader(string(m.Raw)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", m.MediaType)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Fatal(response.Status)
	}
}
