package e2e

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// twice is a workflow that uses the action twice in a job, with steps that read its outputs.
// REGISTRY and CACHE are replaced.
const twice = `
name: image
on:
  push:
    branches: [main]
  pull_request:
permissions: {}
jobs:
  image:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v5
      - uses: warmlayer/warmlayer@v1
        id: image
        with:
          tags: REGISTRY/app:one
          push: ${{ github.event_name == 'push' }}
          cache: CACHE
      - run: echo "outputs:${{ steps.image.outputs.digest }} ${{ steps.image.outputs.cache-hit-ratio }} ${{ steps.image.outputs.cache-export }}"
      - uses: warmlayer/warmlayer@v1
        with:
          outputs: type=local,dest=out
          cache: CACHE
      - run: cat out/about
`

// requested is the event of a pull request, from the repository REPO.
const requested = `{
  "number": 12,
  "repository": {"full_name": "acme/shop", "default_branch": "main"},
  "pull_request": {
    "number": 12,
    "head": {"ref": "fix/login", "repo": {"full_name": "REPO", "fork": false}},
    "base": {"ref": "main", "repo": {"full_name": "acme/shop"}}
  }
}`

// weekly is a workflow that prunes: once what has no branch any more, which is nothing, and once what the pull request has left. REGISTRY is replaced.
const weekly = `
name: prune
on: {schedule: [{cron: '17 3 * * 0'}]}
permissions: {}
jobs:
  prune:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v5
      - uses: warmlayer/warmlayer@v1
        with:
          command: prune
          gone: true
          repository: .
          grace: 1ms
          cache: type=registry,ref=REGISTRY/app
      - uses: warmlayer/warmlayer@v1
        with:
          command: prune
          scopes: pr-12
          cache: type=registry,ref=REGISTRY/app
`

// runner is act, which runs the jobs of a workflow as GitHub's runner does, on a container engine.
type runner struct {
	program string
	host    string // the engine's address
	job     string // image that the jobs run in
	action  string // directory of the action, which names an image that the engine has
	cache   string // directory of its cache server
}

func newRunner(t *testing.T, host, job, image string) runner {
	t.Helper()
	program, err := exec.LookPath("act")
	testkit.Need(t, "act", err)
	r := runner{program: program, host: host, job: job, action: t.TempDir(), cache: t.TempDir()}
	released, err := os.ReadFile("action.yml")
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(released), "\n  image: ")
	_, after, more := strings.Cut(after, "\n")
	if !found || !more {
		t.Fatal("action.yml names no image")
	}
	testkit.Write(t, filepath.Join(r.action, "action.yml"), before+"\n  image: docker://"+image+"\n"+after)
	return r
}

// event runs the project's workflow for an event, with more flags of act's, and returns the log.
func (r runner) event(t *testing.T, p project, name, payload string, flags ...string) string {
	t.Helper()
	event := filepath.Join(t.TempDir(), "event.json")
	testkit.Write(t, event, payload)
	cmd := exec.Command(r.program, append(flags, name, "--eventpath", event, "--rm", "--defaultbranch", "main",
		"--platform", "ubuntu-24.04="+r.job, "--pull=false", "--local-repository", "warmlayer/warmlayer@v1="+r.action,
		"--container-daemon-socket", r.host, "--cache-server-addr", "127.0.0.1", "--cache-server-path", r.cache,
		// act sets a token, for the cache too, only where a server for artifacts is set. It is
		// never called.
		"--artifact-server-path", t.TempDir(), "--artifact-server-addr", "127.0.0.1", "--artifact-server-port", "0")...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "DOCKER_HOST=" + r.host}
	log, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("act %s: %v\n%s", name, err, log)
	}
	containers, err := testkit.Engine(t, r.host).ContainerList(t.Context(), client.ContainerListOptions{All: true})
	if err != nil || len(containers.Items) > 0 {
		t.Errorf("act %s: containers remain: %v, %v", name, containers.Items, err)
	}
	return string(log)
}

// runWorkflows runs the action with act, from an image that the engine has: a push to main, then
// pull requests, each on a new builder, which find all steps in main's cache.
func runWorkflows(t *testing.T, registry string, r runner) {
	for name, cache := range map[string]string{"registry": "type=registry,ref=" + registry + "/app", "gha": "type=gha"} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t, "https://github.com/acme/shop.git", map[string]string{
				".github/workflows/image.yml": strings.NewReplacer("REGISTRY", registry, "CACHE", cache).Replace(twice),
				".github/workflows/prune.yml": strings.ReplaceAll(weekly, "REGISTRY", registry),
			})
			for _, e := range []struct {
				name, payload string
				want          []string
			}{
				{"push", `{"ref": "refs/heads/main", "repository": {"full_name": "acme/shop", "default_branch": "main"}}`, []string{
					"warmlayer: b-main (push to main)", "0 of 9 cached", "outputs:sha256:", " 0.00 written\n", "site of 2 pages",
				}},
				{"pull_request", strings.Replace(requested, "REPO", "acme/shop", 1), []string{
					"warmlayer: pr-12 (pull request 12)", "loaded  base branch       b-main", "9 of 9 cached", "outputs: 1.00 written\n", "site of 2 pages",
				}},
				{"pull_request", strings.Replace(requested, "REPO", "mallory/shop", 1), []string{
					"warmlayer: no scope to write (a fork's pull request)", "9 of 9 cached", "outputs: 1.00 skipped\n",
				}},
				{"schedule", `{"repository": {"full_name": "acme/shop", "default_branch": "main"}}`, map[string][]string{"registry": {
					"caches of pull requests stay", "removed 0 scopes\n", "removed  pr-12  pull request 12", "removed 1 scope; the registry's own",
				}}[name]},
			} {
				log := r.event(t, p, e.name, e.payload)
				for _, want := range e.want {
					if !strings.Contains(log, want) {
						t.Errorf("%s: the log has no %q:\n%s", e.name, want, log)
					}
				}
			}
		})
	}
}

// runPrunes runs the workflow of examples/ that prunes, for a deleted branch, for closed pull requests and on its schedule. A stand-in for GitHub's
// API says which pull requests are open, as docs.github.com shows it ("List pull requests").
func runPrunes(t *testing.T, registry string, r runner) {
	example, err := os.ReadFile("examples/go/.github/workflows/prune.yml")
	if err != nil {
		t.Fatal(err)
	}
	cache := "type=registry,ref=" + registry + "/pruned"
	p := newProject(t, "https://github.com/acme/shop.git", map[string]string{".github/workflows/prune.yml": strings.NewReplacer(
		"type=registry,ref=ghcr.io/acme/hello-go", cache, "gone: true\n", "gone: true\n          repository: .\n          grace: ${{ github.event_name == 'delete' && '1ms' || '24h' }}\n",
	).Replace(string(example))})
	for _, of := range [][]string{{"--branch", "main"}, {"--branch", "old"}, {"--pull-request", "12"}} {
		testkit.Invocation{Dir: testkit.App(t), Args: append(of, "--outputs", "type=cacheonly", "--cache", cache)}.Build(t)
	}
	const token = "canary-of-the-job"
	open := ""
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/repos/acme/shop/pulls" || r.URL.Query().Get("state") != "open" || r.Header.Get("Authorization") != "Bearer "+token {
			http.NotFound(w, r)
		} else if list := open; r.URL.Query().Get("page") == "1" {
			fmt.Fprint(w, list)
		} else {
			fmt.Fprint(w, "[]")
		}
	}))
	t.Cleanup(api.Close)
	const acme = `"repository": {"full_name": "acme/shop", "default_branch": "main"}`
	closed := strings.Replace(requested, "{", `{"action": "closed",`, 1)
	for _, e := range []struct{ name, payload, open, want string }{
		{"delete", `{"ref": "old", "ref_type": "branch", ` + acme + `}`, `[{"number": 12}]`, "removed  b-old  branch old"},
		{"pull_request", strings.Replace(closed, "REPO", "mallory/shop", 1), `[]`, ""},
		{"pull_request", strings.Replace(closed, "REPO", "acme/shop", 1), `[]`, "removed  pr-12  pull request 12"},
		{"schedule", `{` + acme + `}`, `[]`, "removed 0 scopes"},
	} {
		open = e.open
		log := r.event(t, p, e.name, e.payload, "--env", "GITHUB_API_URL="+api.URL, "--secret", "GITHUB_TOKEN="+token)
		if ran := strings.Contains(log, "removed "); ran != (e.want != "") || !strings.Contains(log, e.want) || strings.Count(log, "removed  ") > 1 {
			t.Errorf("%s: the log has no %q:\n%s", e.name, e.want, log)
		}
	}
}

// runBake runs the workflow of the example with a bake file: a push to main, and a pull request, whose targets are warm.
func runBake(t *testing.T, registry string, r runner) {
	files := map[string]string{}
	base := standIn(t, registry+"/base/busybox", busyboxFile)
	err := filepath.WalkDir("examples/bake", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel("examples/bake", path)
		files[name] = strings.NewReplacer("ghcr.io/acme", registry+"/baked", "docker.io/library/busybox:1.37", base).Replace(string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p := newProject(t, "https://github.com/acme/shop.git", files)
	for _, e := range []struct {
		name, payload string
		want          []string
	}{
		{"push", `{"ref": "refs/heads/main", "repository": {"full_name": "acme/shop", "default_branch": "main"}}`, []string{
			"warmlayer: 3 targets (push to main)", "3 written", registry + "/baked/worker:",
		}},
		{"pull_request", strings.Replace(requested, "REPO", "acme/shop", 1), []string{
			"warmlayer: 3 targets (pull request 12)", "10 of 10 cached", "3 written",
		}},
	} {
		log := r.event(t, p, e.name, e.payload, "--workflows", ".github/workflows/image.yml")
		t.Logf("%s:\n%s", e.name, log)
		for _, want := range e.want {
			if !strings.Contains(log, want) {
				t.Errorf("%s: the log has no %q", e.name, want)
			}
		}
	}
}

// matrix is a workflow whose jobs build variants of one image at the same time.
const matrix = `
name: matrix
on: push
permissions: {}
jobs:
  image:
    strategy:
      matrix:
        include:
          - {v: 1, target: site}
          - {v: 2, target: site}
          - {v: 1, target: tools}
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v5
      - uses: warmlayer/warmlayer@v1
        with:
          build-args: V=${{ matrix.v }}
          target: ${{ matrix.target }}
          tags: REGISTRY/matrix:${{ matrix.target }}-${{ matrix.v }}
          push: true
          cache: gha
`

const matrixFile = `FROM scratch AS tools
ADD rootfs.tar /
ARG V
RUN echo "tools $V" > /tools
FROM tools AS site
COPY site site
RUN cat site/*.txt > /index.html
`

// parts is a workflow of two jobs that each build a platform, and of one that makes one image of them.
const parts = `
name: parts
on: push
permissions: {}
jobs:
  part:
    strategy:
      matrix:
        platform: [linux/amd64, linux/386]
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v5
      - uses: warmlayer/warmlayer@v1
        with:
          platforms: ${{ matrix.platform }}
          part: true
          push: true
          tags: REGISTRY/parts:v1
  image:
    needs: part
    runs-on: ubuntu-24.04
    steps:
      - uses: warmlayer/warmlayer@v1
        id: image
        with:
          command: merge
          push: true
          platforms: linux/amd64,linux/386
          tags: REGISTRY/parts:v1
      - run: echo "merged:${{ steps.image.outputs.digest }}"
`

// runParts builds the parts of an image in two jobs, and merges them in a third one.
func runParts(t *testing.T, registry string, r runner) {
	p := newProject(t, "https://github.com/acme/shop.git", map[string]string{
		".github/workflows/parts.yml": strings.ReplaceAll(parts, "REGISTRY", registry),
	})
	log := r.event(t, p, "push", `{"ref": "refs/heads/main", "repository": {"full_name": "acme/shop", "default_branch": "main"}}`)
	for _, want := range []string{"warmlayer: one image of 2 parts", "merged:sha256:"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
}

// runMatrix runs a matrix several times, with GitHub's cache and an empty builder for each job, until every
// variant is fully cached and nothing is written. That is so in the third time, since jobs that made the same step
// at the same time agree on one result of it in the second, unless jobs wrote in the same second, of which act's
// server keeps one. That no build is lost where a server keeps all is tested in backends/conformance.
func runMatrix(t *testing.T, registry string, r runner) {
	p := newProject(t, "https://github.com/acme/shop.git", map[string]string{
		".github/workflows/matrix.yml": strings.ReplaceAll(matrix, "REGISTRY", registry), "Dockerfile": matrixFile,
	})
	const pushed = `{"ref": "refs/heads/main", "repository": {"full_name": "acme/shop", "default_branch": "main"}}`
	const jobs, rounds = 3, 5
	warm := false
	for round := 1; !warm && round <= rounds; round++ {
		log := r.event(t, p, "push", pushed)
		t.Logf("round %d:\n%s", round, reports(log))
		if wrote := strings.Count(log, "written  b-main"); round == 1 && wrote != jobs {
			t.Errorf("%d of %d jobs wrote at first:\n%s", wrote, jobs, log)
		}
		warm = strings.Count(log, "unchanged  b-main") == jobs && strings.Count(log, "4 of 4 cached") == 2 && strings.Count(log, "2 of 2 cached") == 1
	}
	if !warm {
		t.Errorf("after %d rounds not every job is cached and unchanged", rounds)
	}
}

// reports are the lines of a log that are from the program's reports.
func reports(log string) string {
	var lines []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, "|   steps  ") || strings.Contains(line, "|   write  ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
