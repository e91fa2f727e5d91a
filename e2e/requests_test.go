package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// accesses is an access log of a registry.
type accesses struct {
	mu  sync.Mutex
	log []string
}

// serve implements [testkit.Fault], without a fault.
func (a *accesses) serve(w http.ResponseWriter, r *http.Request, server http.Handler) {
	a.record(r)
	server.ServeHTTP(w, r)
}

func (a *accesses) record(r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	who := "warmlayer"
	if strings.HasPrefix(r.UserAgent(), "buildkit/") {
		who = "buildkit"
	}
	a.log = append(a.log, who+" "+r.Method+" "+r.URL.Path)
}

// take empties the log, and returns the requests that are the cache's and those that are the push's.
// BuildKit pushes by HEAD, POST and PUT, and the program asks whether it may push with an upload that
// it does not finish.
func (a *accesses) take() (cache, push []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	pings := 0
	for _, line := range a.log {
		who, request, _ := strings.Cut(line, " ")
		method, path, _ := strings.Cut(request, " ")
		pushes := who == "buildkit" && method != http.MethodGet && !strings.Contains(path, "/manifests/cache-") ||
			who == "warmlayer" && strings.Contains(path, "/uploads/")
		if path == "/v2/" {
			pings++
			pushes = pings > 1 // the check of the push has its own
		}
		if pushes {
			push = append(push, line)
		} else {
			cache = append(cache, line)
		}
	}
	a.log = nil
	return cache, push
}

// The requests to a registry that are the cache's, with the cache beside the image and an empty builder
// each time.
func TestRequests(t *testing.T) {
	t.Parallel()
	registry, log := testkit.StartFaulty(t, testkit.StartRegistry(t).Host), &accesses{}
	registry.Break(func(*http.Request) bool { return true }, log.serve)
	app := testkit.App(t)
	build := func(branch string) testkit.Report {
		return testkit.Invocation{Dir: app, Branch: branch, Args: []string{
			"--default-branch", "main", "--push", "--tags", registry.Host + "/o/app:" + branch,
		}}.Build(t)
	}
	build("main")
	log.take()
	for _, test := range []struct {
		name, branch string
		most         int
	}{
		{"unchanged", "main", 4},
		{"first build of a branch", "feature", 6},
		{"unchanged on a branch", "feature", 4},
	} {
		report := build(test.branch)
		cache, push := log.take()
		if cached := report.Cached(); cached != len(report.Steps) {
			t.Errorf("%s: %d of %d cached", test.name, cached, len(report.Steps))
		}
		if slices.Sort(cache); len(cache) > test.most {
			t.Errorf("%s: %d requests of the cache, want at most %d:\n%s", test.name, len(cache), test.most, strings.Join(cache, "\n"))
		}
		t.Logf("%s: %d requests of the cache, %d of the push\n%s\nthe push:\n%s", test.name, len(cache), len(push), strings.Join(cache, "\n"), strings.Join(push, "\n"))
	}
}

// A branch's first build copies main's cache while it pushes: here the push waits for the copy.
func TestCopyBesidePush(t *testing.T) {
	t.Parallel()
	registry, copied := testkit.StartFaulty(t, testkit.StartRegistry(t).Host), make(chan struct{})
	app := testkit.App(t)
	build := func(branch string) testkit.Report {
		return testkit.Invocation{Dir: app, Branch: branch, Args: []string{"--push", "--tags", registry.Host + "/o/app:" + branch}}.Build(t)
	}
	build("main")
	put := func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/")
	}
	registry.Break(put, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/cache-b-feature") {
			server.ServeHTTP(w, r)
			close(copied)
			return
		}
		select {
		case <-copied:
			server.ServeHTTP(w, r)
		case <-time.After(30 * time.Second):
			http.Error(w, "nothing was copied", http.StatusForbidden)
		}
	})
	if r := build("feature"); r.Outcome(t) != "written" {
		t.Errorf("exports %+v", r.Exports)
	}
}

// A build whose steps are all in the caches that were read is not exported: a branch with builds of its own
// that gets main's files takes what main's scope has, with one config and one manifest, and a build with
// another label writes nothing.
func TestMergedRequests(t *testing.T) {
	t.Parallel()
	registry, log := testkit.StartFaulty(t, testkit.StartRegistry(t).Host), &accesses{}
	registry.Break(func(*http.Request) bool { return true }, log.serve)
	app := testkit.App(t)
	build := func(branch, text string, args ...string) testkit.Report {
		testkit.Write(t, filepath.Join(app, "site", "index.txt"), text)
		return testkit.Invocation{Dir: app, Branch: branch, Args: append([]string{
			"--default-branch", "main", "--push", "--tags", registry.Host + "/o/app:" + branch,
		}, args...)}.Build(t)
	}
	build("main", "One\n")
	build("feature", "Two\n")
	build("main", "Three\n")
	for _, test := range []struct {
		name, text, outcome string
		most                int // requests, with those of the push, which has 10 and PUTs what is new in the image
		args                []string
	}{
		{name: "main's files on a branch", text: "Three\n", outcome: "written", most: 22},
		{name: "the branch's own files", text: "Two\n", outcome: "unchanged", most: 15},
		{name: "another label", text: "Two\n", outcome: "unchanged", most: 17, args: []string{"--labels", "commit=2"}},
	} {
		log.take()
		report := build("feature", test.text, test.args...)
		cache, push := log.take()
		if cached := report.Cached(); cached != len(report.Steps) || report.Outcome(t) != test.outcome {
			t.Errorf("%s: %d of %d cached, exports %+v", test.name, cached, len(report.Steps), report.Exports)
		}
		all := slices.Concat(cache, push)
		if len(all) > test.most {
			t.Errorf("%s: %d requests, want at most %d", test.name, len(all), test.most)
		}
		t.Logf("%s: %d requests\n%s", test.name, len(all), strings.Join(all, "\n"))
	}
}

// After a code change the image's daemon gives the cache's manifest and config back in its answer, and BuildKit's own sends
// them to the registry, where they are read. The scope is whole with both.
func TestGivenBack(t *testing.T) {
	t.Parallel()
	requests := map[string][]string{}
	for name, path := range map[string]string{"BuildKit's": os.Getenv("PATH"), "the image's": testkit.ImagePath(t)} {
		registry, log := testkit.StartFaulty(t, testkit.StartRegistry(t).Host), &accesses{}
		registry.Break(func(*http.Request) bool { return true }, log.serve)
		app := testkit.App(t)
		build := func() testkit.Report {
			return testkit.Invocation{Dir: app, Branch: "main", Env: map[string]string{"PATH": path}, Args: []string{
				"--default-branch", "main", "--push", "--tags", registry.Host + "/o/app:main",
			}}.Build(t)
		}
		build()
		testkit.Write(t, filepath.Join(app, "site", "index.txt"), "Two\n")
		log.take()
		if changed := build(); changed.Outcome(t) != "written" {
			t.Errorf("%s: exports %+v", name, changed.Exports)
		}
		cache, push := log.take()
		for _, line := range slices.Concat(cache, push) { // the push asks by HEAD
			if strings.Contains(line, "/manifests/sha256:") && !strings.Contains(line, " HEAD ") || strings.HasPrefix(line, "warmlayer GET") {
				requests[name] = append(requests[name], line)
			}
		}
		t.Logf("%s daemon: %d requests\n%s", name, len(cache)+len(push), strings.Join(requests[name], "\n"))
		if unchanged := build(); unchanged.Outcome(t) != "unchanged" || unchanged.Cached() != len(unchanged.Steps) {
			t.Errorf("%s: the next build: %d of %d cached, exports %+v", name, unchanged.Cached(), len(unchanged.Steps), unchanged.Exports)
		}
	}
	if own, image := len(requests["BuildKit's"]), len(requests["the image's"]); image > own-3 {
		t.Errorf("%d manifests by digest and reads, and %d with the image's daemon", own, image)
	}
}

// The frontend asks for the base image while the scopes are read: here the scopes wait for that request.
func TestBuildBesideReading(t *testing.T) {
	t.Parallel()
	registry, began := testkit.StartFaulty(t, testkit.StartRegistry(t).Host), make(chan struct{})
	app := testkit.App(t)
	layer, err := random.Layer(1<<10, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	base := registry.Host + "/o/base:1"
	testkit.PushImage(t, base, nil, layer)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM "+base+"\nCOPY render.sh /\nCOPY site /site\n")
	build := func(branch string) testkit.Report {
		return testkit.Invocation{Dir: app, Branch: branch, Args: []string{"--push", "--tags", registry.Host + "/o/app:" + branch}}.Build(t)
	}
	build("main")
	var once sync.Once
	registry.Break(func(*http.Request) bool { return true }, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v2/o/base/"):
			once.Do(func() { close(began) })
		case strings.Contains(r.URL.Path, "/manifests/cache-"):
			select {
			case <-began:
			case <-r.Context().Done():
			}
		}
		server.ServeHTTP(w, r)
	})
	r := build("feature")
	if got := r.Source("b-main"); got != "loaded" || r.Cached() != len(r.Steps) || r.Outcome(t) != "written" {
		t.Errorf("b-main %s, %d of %d steps cached, exports %+v", got, r.Cached(), len(r.Steps), r.Exports)
	}
}
