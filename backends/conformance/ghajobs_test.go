package conformance

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// job is a build in a job on github.com, whose branch comes from the event.
type job struct {
	server     testkit.GHA
	app, image string
	token      string
	env        map[string]string // the variables of the event, and more
	args       []string
	verbatim   bool // without the default cache: only those of args
}

func (j job) start(t *testing.T) testkit.Output {
	t.Helper()
	env := j.server.Env(j.token)
	maps.Copy(env, map[string]string{"GITHUB_ACTIONS": "true", "RUNNER_TEMP": t.TempDir()})
	maps.Copy(env, j.env)
	args := append([]string{"--tags", j.image + ":v1", "--push"}, j.args...)
	if !j.verbatim {
		args = append(args, "--cache", "gha")
	}
	out := testkit.Invocation{Dir: j.app, Env: env, Args: args}.Start(t)
	if out.Code != 0 || out.Report.Digest == "" {
		t.Fatalf("exit code %d, image %q:\n%s", out.Code, out.Report.Digest, out.Text)
	}
	if strings.Contains(out.Text+out.Files, j.token) || strings.Contains(out.Text+out.Files, "sig=") {
		t.Errorf("a credential is in the output:\n%s", out.Text)
	}
	return out
}

// push is the event of a push to a branch.
func push(branch string) map[string]string {
	return map[string]string{"GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/" + branch, "GITHUB_REF_NAME": branch, "GITHUB_REF_TYPE": "branch"}
}

// servers are shared by all tests in this file.
type servers struct {
	storage  testkit.Azblob
	registry testkit.Registry
}

// newJob is a push to main, with its own token, on a new service.
func (s servers) newJob(t *testing.T) job {
	t.Helper()
	server := testkit.StartGHAOn(t, s.storage.New(t))
	return job{
		server: server, app: twoStages(t), image: s.registry.Repository(),
		token: server.Token("refs/heads/main"), env: push("main"),
	}
}

// TestGHAJobs runs jobs as on github.com.
func TestGHAJobs(t *testing.T) {
	t.Parallel()
	s := servers{testkit.StartAzblob(t), testkit.StartRegistry(t)}
	for name, test := range map[string]func(*testing.T){
		"faults": s.faults, "merge queue": s.mergeQueue, "blob gone": s.blobGone, "content lost": s.contentLost, "forbidden": s.forbidden, "events": s.events,
		"abandoned": s.abandoned, "busy": s.busy, "beside others": s.besideOthers, "verbatim": s.verbatim, "budget": s.budget,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// A fault of the service leads to a warning; the image is built.
func (s servers) faults(t *testing.T) {
	j, other := s.newJob(t), testkit.StartGHAOn(t, s.storage.New(t))
	down := maps.Clone(j.env)
	down["ACTIONS_RESULTS_URL"] = "http://127.0.0.1:1/"
	tests := []struct {
		name, token   string
		env           map[string]string
		state, export string
		says          string
	}{
		{"another server's token", other.Token("refs/heads/main"), j.env, "failed", "failed", "unauthenticated"},
		{"an expired token", j.server.Expired("refs/heads/main"), j.env, "failed", "failed", "cache token expired"},
		{"no token at all", "canary-of-nobody", j.env, "failed", "failed", "token is malformed"},
		{"no listener", j.token, down, "failed", "failed", "connection refused"},
		{"an empty cache", j.token, j.env, "absent", "written", ""},
	}
	for _, builder := range []string{"embedded", "remote"} {
		for _, test := range tests {
			t.Run(test.name+" "+builder, func(t *testing.T) {
				j := j
				j.token, j.env = test.token, test.env
				if builder == "remote" {
					j.args = []string{"--builder", testkit.StartBuildkitd(t)}
					j.server.Remove("")
				}
				out := j.start(t)
				if out.Report.Source("b-main") != test.state || out.Report.Outcome(t) != test.export {
					t.Errorf("sources %v, exports %v", out.Report.Sources, out.Report.Exports)
				}
				if !strings.Contains(out.Text, test.says) {
					t.Errorf("the output does not mention %s:\n%s", test.says, out.Text)
				}
			})
		}
	}
}

// A missing blob costs the steps that need it, which may be all of them, and the export repairs the cache.
func (s servers) blobGone(t *testing.T) {
	for _, builder := range []string{"embedded", "remote"} {
		t.Run(builder, func(t *testing.T) {
			t.Parallel()
			build := func(j job) testkit.Report {
				if builder == "remote" {
					j.args = []string{"--builder", testkit.StartBuildkitd(t)}
				}
				return j.start(t).Report
			}
			j := s.newJob(t)
			cold := build(j)
			_, key, _ := strings.Cut(j.server.Entries("buildkit-blob-")[0], " ")
			if j.server.Remove(key) != 1 {
				t.Fatalf("no entry %s", key)
			}
			again := build(j)
			if !strings.Contains(again.Sources[0].Error, "blobs are gone") || again.Cached() == len(cold.Steps) || again.Outcome(t) != "written" {
				t.Errorf("%d of %d steps cached, sources %v, exports %v", again.Cached(), len(cold.Steps), again.Sources, again.Exports)
			}
			if warm := build(j); warm.Source("b-main") != "loaded" || warm.Cached() != len(warm.Steps) {
				t.Errorf("%d of %d steps cached, sources %v", warm.Cached(), len(warm.Steps), warm.Sources)
			}
		})
	}
}

// When content turns out to be lost during the build, the build runs a second time.
func (s servers) contentLost(t *testing.T) {
	j := s.newJob(t)
	j.start(t)
	j.server.Lose(t, "buildkit-blob-")
	testkit.Write(t, filepath.Join(j.app, "site", "index.txt"), "Changed\n")
	if r := j.start(t).Report; r.Source("b-main") != "failed" || r.Retried == "" {
		t.Errorf("sources %v, retried %q", r.Sources, r.Retried)
	}
}

// The entries that a cancelled build has begun do not disturb the next one, and what that writes is read by
// a managed builder and by BuildKit's own importer.
func (s servers) abandoned(t *testing.T) {
	j := s.newJob(t)
	j.start(t)
	j.server.Abandon("")
	next := j.start(t)
	if next.Report.Source("b-main") != "absent" || next.Report.Outcome(t) != "written" || strings.Contains(next.Text, "arning") {
		t.Fatalf("sources %v, exports %v:\n%s", next.Report.Sources, next.Report.Exports, next.Text)
	}
	for _, args := range [][]string{nil, {"--builder", testkit.StartBuildkitd(t)}} {
		j.args = args
		if r := j.start(t).Report; r.Source("b-main") != "loaded" || r.Cached() != len(r.Steps) {
			t.Errorf("%v: %d of %d steps cached, sources %v", args, r.Cached(), len(r.Steps), r.Sources)
		}
	}
}

// What the token or the runner's mode forbids is not attempted, and the report says why.
func (s servers) forbidden(t *testing.T) {
	j := s.newJob(t)
	if j.start(t).Report.Outcome(t) != "written" {
		t.Fatal("the first build wrote nothing")
	}
	readOnly := j.server.Token("", "refs/heads/main")
	tests := []struct {
		mode, token           string
		reads, writes         bool
		sourceSays, writeSays string
	}{
		{"", j.token, true, true, "", ""},
		{"write", j.token, true, true, "", ""},
		{"read", j.token, true, false, "", "ACTIONS_CACHE_MODE=read"},
		{"none", j.token, false, false, "not read: ACTIONS_CACHE_MODE=none", "ACTIONS_CACHE_MODE=none"},
		{"write-only", j.token, false, true, "not read: ACTIONS_CACHE_MODE=write-only", ""},
		{"", readOnly, true, false, "", "the runner's token may only read"},
		{"", j.server.Token("refs/heads/other", "refs/heads/main"), true, false, "", "the runner's token writes the cache of refs/heads/other, not b-main"},
	}
	for _, builder := range []string{"embedded", "remote"} {
		for _, test := range tests {
			t.Run(test.mode+" "+test.writeSays+" "+builder, func(t *testing.T) {
				j := j
				j.env, j.token, j.args = maps.Clone(j.env), test.token, nil
				j.env["ACTIONS_CACHE_MODE"] = test.mode
				if builder == "remote" {
					j.args = []string{"--builder", testkit.StartBuildkitd(t)}
				}
				testkit.Write(t, filepath.Join(j.app, "site", "index.txt"), t.Name()+test.token)
				j.server.Requests()
				r := j.start(t).Report
				requests := strings.Join(j.server.Requests(), "\n")
				if got := strings.Contains(requests, "CreateCacheEntry"); got != test.writes {
					t.Errorf("writing was attempted: %t:\n%s", got, requests)
				}
				// BuildKit's own export reads before it writes.
				asked := strings.Contains(requests, "GetCacheEntryDownloadURL")
				if asked && !test.reads && (builder == "embedded" || !test.writes) {
					t.Errorf("the service was asked:\n%s", requests)
				}
				wantSource := map[bool]string{true: "loaded", false: "absent"}[test.reads]
				if s := r.Sources[0]; s.State != wantSource || s.Error != test.sourceSays {
					t.Errorf("sources %v", r.Sources)
				}
				wantExport := map[bool]string{true: "written", false: "skipped"}[test.writes]
				if r.Outcome(t) != wantExport || r.Exports[0].Error != test.writeSays {
					t.Errorf("exports %v", r.Exports)
				}
			})
		}
	}
}

// pullRequest is the event of pull request 7, from a branch called main of this or of another
// repository.
func pullRequest(t *testing.T, from string) map[string]string {
	t.Helper()
	event, err := json.Marshal(map[string]any{
		"number": 7, "repository": map[string]string{"default_branch": "main"},
		"pull_request": map[string]any{
			"number": 7, "base": map[string]any{"ref": "main"},
			"head": map[string]any{"ref": "main", "repo": map[string]string{"full_name": from}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "event.json")
	testkit.Write(t, file, string(event))
	return map[string]string{
		"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": file,
		"GITHUB_REF": "refs/pull/7/merge", "GITHUB_HEAD_REF": "main", "GITHUB_BASE_REF": "main",
	}
}

// Branches and pull requests start from main's cache, and write their own.
func (s servers) events(t *testing.T) {
	j := s.newJob(t)
	cold := j.start(t).Report
	before := j.server.Entries("index-")
	tests := []struct {
		name, token string
		env         map[string]string
		source      string // its own scope, absent in the first build; "": none
		writes      string // the ref that is written; "": none
	}{
		{"a branch", j.server.Token("refs/heads/feature/a", "refs/heads/main"), push("feature/a"), "b-feature-a-951d42dc02dc7431", "refs/heads/feature/a"},
		{"a pull request", j.server.Token("refs/pull/7/merge", "refs/heads/main"), pullRequest(t, testkit.Repository), "pr-7", "refs/pull/7/merge"},
		// GitHub lets a fork's pull request write its own ref too, if the repository allows that.
		{"a fork's pull request", j.server.Token("refs/pull/7/merge", "refs/heads/main"), pullRequest(t, "mallory/app"), "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			had := j.server.Entries("")
			j := j
			j.token, j.env = test.token, test.env
			r := j.start(t).Report
			if r.Cached() != len(cold.Steps) || r.Source("b-main") != "loaded" || test.source != "" && r.Source(test.source) != "absent" {
				t.Errorf("%d of %d steps cached, sources %v", r.Cached(), len(r.Steps), r.Sources)
			}
			if test.writes == "" {
				if len(r.Exports) > 0 || !slices.Equal(had, j.server.Entries("")) {
					t.Errorf("exports %v, entries %v", r.Exports, j.server.Entries(""))
				}
				return
			}
			written := slices.ContainsFunc(j.server.Entries("index-"), func(e string) bool { return strings.HasPrefix(e, test.writes+" ") })
			if r.Outcome(t) != "written" || !written {
				t.Errorf("exports %v, entries %v", r.Exports, j.server.Entries("index-"))
			}
		})
	}
	for _, e := range before {
		if !slices.Contains(j.server.Entries("index-"), e) {
			t.Errorf("%s is gone", e)
		}
	}
}

// A merge queue's run starts from main's cache. GitHub would give what it writes to no other run, so
// it writes nothing and says why; the push to main reads what its token reaches.
func (s servers) mergeQueue(t *testing.T) {
	for _, builder := range []string{"embedded", "remote"} {
		t.Run(builder, func(t *testing.T) {
			t.Parallel()
			start := func(j job) testkit.Report {
				if builder == "remote" {
					j.args = []string{"--builder", testkit.StartBuildkitd(t)}
				}
				return j.start(t).Report
			}
			main := s.newJob(t)
			main.env = github(t, "push", "refs/heads/main", nil)
			if cold := start(main); cold.Outcome(t) != "written" || cold.Source("q-main") != "absent" {
				t.Fatalf("sources %v, exports %v", cold.Sources, cold.Exports)
			}
			had, group := main.server.Entries(""), main
			group.token, group.env = main.server.Token(queueRef("pr-7-1a2b3c"), "refs/heads/main"), mergeGroup(t, "pr-7-1a2b3c")
			r := start(group)
			if r.Cached() != len(r.Steps) || r.Source("b-main") != "loaded" || r.Outcome(t) != "skipped" || !slices.Equal(had, main.server.Entries("")) {
				t.Errorf("%d of %d steps cached, sources %v, exports %v, entries %v", r.Cached(), len(r.Steps), r.Sources, r.Exports, main.server.Entries(""))
			}
			const why = "GitHub's cache would give what this run writes for refs/heads/gh-readonly-queue/main/pr-7-1a2b3c to no other run: " +
				"neither to the queue's next one nor to the push to main; a registry or a bucket keeps it"
			if got := r.Exports[0].Error; got != why {
				t.Errorf("skipped: %s", got)
			}
			for _, source := range r.Sources {
				if source.Name == "q-main" && source.Error != "not read: the runner's token does not reach it" {
					t.Errorf("source %+v", source)
				}
			}
		})
	}
}

// A service that is busy delays a build, and has no other effect.
func (s servers) busy(t *testing.T) {
	j := s.newJob(t)
	j.server.Busy(3, time.Second)
	if r := j.start(t).Report; r.Outcome(t) != "written" || r.Source("b-main") != "absent" {
		t.Errorf("sources %v, exports %v", r.Sources, r.Exports)
	}
	j.server.Busy(2, time.Second)
	if r := j.start(t).Report; r.Cached() != len(r.Steps) || r.Outcome(t) != "unchanged" {
		t.Errorf("%d of %d steps cached, exports %v", r.Cached(), len(r.Steps), r.Exports)
	}
}

// Several caches are written at once, and one that must not be written is left out alone.
func (s servers) besideOthers(t *testing.T) {
	j, bucket := s.newJob(t), testkit.StartS3(t)
	j.args = []string{"--cache", "type=registry,ref=" + j.image, "--cache", bucket.Line(""), "--cache", "type=gha,scope=second"}
	outcomes := func(r testkit.Report) string {
		var all []string
		for _, e := range r.Exports {
			all = append(all, e.Cache+" "+e.Outcome)
		}
		slices.Sort(all)
		return strings.Join(all, ", ")
	}
	others := ", registry " + j.image + " written, s3 cache written"
	if got, want := outcomes(j.start(t).Report), "gha buildkit written, gha second written"+others; got != want {
		t.Errorf("exports %s, want %s", got, want)
	}
	j.token = j.server.Token("", "refs/heads/main")
	testkit.Write(t, filepath.Join(j.app, "site", "index.txt"), "Changed\n")
	if got, want := outcomes(j.start(t).Report), "gha buildkit skipped, gha second skipped"+others; got != want {
		t.Errorf("exports %s, want %s", got, want)
	}
}

// Lines of cache-from and cache-to work with the runner's variables, as with buildx.
func (s servers) verbatim(t *testing.T) {
	j := s.newJob(t)
	j.verbatim, j.args = true, []string{"--cache-from", "type=gha,scope=mine", "--cache-to", "type=gha,scope=mine,mode=max"}
	if r := j.start(t).Report; r.Outcome(t) != "written" {
		t.Errorf("exports %v", r.Exports)
	}
	if r := j.start(t).Report; r.Cached() != len(r.Steps) {
		t.Errorf("%d of %d steps cached", r.Cached(), len(r.Steps))
	}
	if got := j.server.Entries("index-mine-1-"); len(got) == 0 {
		t.Errorf("entries %v", j.server.Entries("index-"))
	}
}
