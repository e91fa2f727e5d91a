package report

import (
	"bytes"
	"encoding/base64"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachemiss"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/timing"
	"github.com/warmlayer/warmlayer/scope"
)

var update = flag.Bool("update", false, "write what the code gives into testdata")

// hostile is a name with all characters that have a meaning in some form of the report.
const hostile = "[1/1] RUN echo \"`x`\" | tee a\\|b</code></pre><script> @team #1 :tada: $(id) ${CI_JOB_TOKEN}\n" +
	"::set-output name=digest::x\r\n\x1b[31mred\u202e\xff ![i](https://evil.example) *b* _i_ ~s~ www.evil.example"

// reports are the cases of the golden files, by their names in testdata.
func reports() map[string]Report {
	const ownName = "b-feature-a-951d42dc02dc7431"
	const cache = "local /var/cache/app"
	own := func(state cacheplan.State) cacheplan.Source {
		return cacheplan.Source{Cache: cache, Name: ownName, Why: "own branch", State: state}
	}
	fromMain := cacheplan.Source{Cache: cache, Name: "b-main", Why: "default branch", State: cacheplan.Loaded}
	steps := func(cached ...bool) []solve.Step {
		var all []solve.Step
		for i, name := range []string{"[build 2/4] WORKDIR /src", "[build 3/4] COPY . .", "[build 4/4] RUN make", "[stage-1 2/2] COPY --from=build /out /"}[:len(cached)] {
			all = append(all, solve.Step{Name: name, Digest: digest.FromString(name), Cached: cached[i], Seconds: float64(i) / 4})
		}
		return all
	}
	base := Report{
		Version: "v0.1.0",
		Builder: "embedded", Networks: []Network{{Builder: "embedded", Steps: "own"}},
		Plan: scope.New(
			scope.Facts{CI: "git", Event: "push", Branch: "feature/a", Default: "main", Trusted: true},
			scope.Options{}),
		Result: solve.Result{
			Digest:  digest.FromString("image"),
			ImageID: digest.FromString("config"),
			Metadata: map[string]string{
				"image.name":                "ghcr.io/o/app:feature-a,ghcr.io/o/app:latest",
				"containerimage.digest":     digest.FromString("image").String(),
				"containerimage.descriptor": base64.StdEncoding.EncodeToString([]byte(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1234567}`)),
			},
			Steps:   steps(true, true, true, true),
			Sources: []cacheplan.Source{own(cacheplan.Absent), fromMain},
			Exports: []solve.Export{{Cache: cache, Name: ownName, Outcome: solve.Written, Seconds: 0.42}},
			Phases:  []solve.Phase{{Name: "start builder", Seconds: 0.61}, {Name: "build", Seconds: 0.4}, {Name: "push", Seconds: 0.1}, {Name: "export cache", Seconds: 0.42}},
		},
		Seconds: 1.6,
	}
	with := func(change func(*Report)) Report {
		r := base
		change(&r)
		return r
	}
	return map[string]Report{
		"warm": base,
		"timings": with(func(r *Report) {
			r.ShowTimings, r.Timings = true, []timing.Row{
				{Name: "start builder", Start: 0.01, Seconds: 0.61, Critical: true}, {Name: "read b-main from " + cache, Start: 0.02, Seconds: 0.1},
				{Name: "build", Start: 0.63, Seconds: 84, Critical: true}, {Name: "[internal] load build context", Start: 0.7, Seconds: 0.2},
				{Name: "[build 4/4] RUN echo '|' `x`", Start: 0.95, Seconds: 83.7, Critical: true},
				{Name: "push", Start: 84.65, Seconds: 1.2}, {Name: "export cache " + ownName + " to " + cache, Start: 84.65, Seconds: 2.42, Critical: true},
			}
		}),
		"unchanged": with(func(r *Report) {
			r.Result.Sources = []cacheplan.Source{own(cacheplan.Loaded), fromMain}
			r.Result.Exports = []solve.Export{{Cache: cache, Name: ownName, Outcome: solve.Unchanged}}
		}),
		"cold": with(func(r *Report) {
			r.Result.Sources = []cacheplan.Source{own(cacheplan.Absent)}
			r.Result.Steps = steps(false, false, false, false)
			r.Result.Warnings = []solve.Warning{{
				Text:   "JSONArgsRecommended: JSON arguments recommended for CMD (line 7)",
				Detail: "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
				URL:    "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
				Place:  solve.Place{File: "app/Dockerfile", Line: 7, EndLine: 8},
			}}
			r.Seconds = 84.3
		}),
		"fork": with(func(r *Report) {
			r.Plan = scope.New(scope.Facts{CI: "github", PR: 7, Untrusted: "a fork's pull request", Branch: "main", Default: "main"}, scope.Options{})
			r.Result.Sources = []cacheplan.Source{fromMain}
			r.Result.Exports = nil
			r.Result.Steps = steps(true, true, false)
			r.Result.Misses = []cachemiss.Reason{{Stage: "build", Step: "RUN make", Text: "the command changed: -make +make -j2", Scope: "b-main"}}
		}),
		"matrix": with(func(r *Report) {
			last := own(cacheplan.Loaded)
			last.Hits, last.Steps = 2, 4
			one, three := 1, 3
			last.Used = &one
			r.Result.Misses = []cachemiss.Reason{{Stage: "stage-1", Step: "COPY --from=build /out /", Text: "what it takes from stage build changed", Scope: ownName}}
			main := fromMain
			main.Used = &three
			r.Result.Sources = []cacheplan.Source{last, main}
			r.Result.Steps = steps(true, true, true, false)
			r.Result.Exports = []solve.Export{{
				Cache: cache, Name: ownName, Outcome: solve.Written, Seconds: 0.42,
				Kept: cacheplan.Kept{Builds: 3, Variants: 1, Bytes: 120_000_000, Dropped: 2},
			}}
			r.Warnings = []string{"fail-below: 3 of 4 steps were cached, and a ratio of at least 0.9 is wanted"}
		}),
		"withheld": with(func(r *Report) {
			withheld := own(cacheplan.Absent)
			withheld.Err = backends.Withheld("not read: ACTIONS_CACHE_MODE=none")
			r.Result.Sources = []cacheplan.Source{withheld}
			r.Result.Exports = []solve.Export{{Cache: cache, Name: ownName, Outcome: solve.Skipped, Err: errors.New("ACTIONS_CACHE_MODE=none")}}
		}),
		"automatic": with(func(r *Report) {
			r.Auto = Auto{Cache: cache, Why: "the build pushes no image, and this job has no cache of GitHub's"}
		}),
		"queued": with(func(r *Report) { // a registry has a merge queue's cache, a directory has none
			r.Plan = scope.New(scope.Facts{Event: "push", Branch: "main", Default: "main", Trusted: true, Protected: true}, scope.Options{})
			read := func(cache string, state cacheplan.State) []cacheplan.Source {
				return []cacheplan.Source{
					{Cache: cache, Name: "b-main", Why: "own branch", State: cacheplan.Loaded},
					{Cache: cache, Name: "q-main", Why: scope.QueueOfBranch, State: state},
				}
			}
			r.Result.Sources = append(read(cache, cacheplan.Absent), read("registry ghcr.io/o/app", cacheplan.Loaded)...)
			r.Result.Exports = []solve.Export{{Cache: cache, Name: "b-main", Outcome: solve.Written, Seconds: 0.42}}
		}),
		"reduced": with(func(r *Report) {
			partly := own(cacheplan.Loaded)
			partly.Err = errors.New("2 of 9 results are not used: 1 of 7 blobs are gone, the first sha256:2c26")
			r.Result.Sources = []cacheplan.Source{partly, fromMain}
			r.Result.Exports = []solve.Export{{
				Cache: cache, Name: ownName, Outcome: solve.Written, Seconds: 0.42,
				Err: errors.New("40 of 4000 results were left out: the cache config has 1060000 bytes, and BuildKit imports at most 1048576"),
			}}
		}),
		"several": with(func(r *Report) {
			r.Result.Sources = []cacheplan.Source{
				own(cacheplan.Loaded),
				{Cache: "registry ghcr.io/o/app", Name: ownName, Why: "own branch", State: cacheplan.Failed, Err: errors.New("HEAD https://ghcr.io/v2/o/app/manifests/cache-b-main: 403 Forbidden")},
				{Cache: "s3 bucket", State: cacheplan.Loaded},
			}
			r.Result.Exports = []solve.Export{
				{Cache: cache, Name: ownName, Outcome: solve.Written, Seconds: 0.4},
				{Cache: "registry ghcr.io/o/app", Name: ownName, Outcome: solve.Broken, Err: errors.New("not done within 10m0s (cache-timeout)"), Seconds: 600},
				{Cache: "s3 bucket", Outcome: solve.Skipped, Err: errors.New("the build's inputs changed while it ran")},
			}
			r.Result.Steps = steps(true, true, false, false)
			r.Warnings = []string{"cache-write: always: written by an untrusted build"}
			r.Result.Retried = "a cache broke the build: blob sha256:2c26 was lost"
			r.Seconds = 612
		}),
		"failed": with(func(r *Report) {
			r.Result.Digest, r.Result.ImageID, r.Result.Metadata = "", "", nil
			r.Result.Steps = steps(true, false, false)
			r.Result.Steps[1].Error = "context canceled"
			r.Result.Steps[2].Error = `process "/bin/sh -c make" did not complete successfully: exit code: 2`
			r.Result.Exports = []solve.Export{{Cache: cache, Name: ownName, Outcome: solve.Skipped, Err: errors.New("the build failed")}}
			r.Result.Failure = &solve.Failure{
				Place: solve.Place{File: "Dockerfile", Line: 4, EndLine: 4}, Step: r.Result.Steps[2].Name,
				Log: "cc -o app app.c\napp.c:3: \x1b[31merror:\x1b[0m <stdio.h> 100% missing\n\nmake: *** [app] Error 1\n",
			}
			r.Err = errors.New(`failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 2`)
		}),
		"explained": with(func(r *Report) {
			r.Result.Digest, r.Result.ImageID, r.Result.Metadata = "", "", nil
			r.Result.Steps = steps(true, false)
			r.Result.Steps[1].Error = "failed to compute cache key"
			r.Result.Exports = nil
			r.Result.Failure = &solve.Failure{
				What: "COPY nofile: not in the context (e/); excluded by e/.dockerignore line 3", Next: "remove the pattern from e/.dockerignore",
				Place: solve.Place{File: "e/Dockerfile", Line: 7, EndLine: 7}, Step: r.Result.Steps[1].Name,
			}
			r.Err = errors.New("failed to solve: failed to compute cache key: \"/nofile\": not found")
		}),
		"no-builder": with(func(r *Report) {
			r.Builder, r.Result = "", solve.Result{}
			r.Err = errors.New("start buildkitd: not found in PATH\nhint: install BuildKit, or set builder to an address")
			r.Seconds = 0.1
		}),
		"no-cache": with(func(r *Report) {
			r.Result.Sources, r.Result.Exports, r.Result.Steps, r.Result.Metadata = nil, nil, nil, nil
		}),
		"hostile": with(func(r *Report) {
			r.Plan.Why, r.Builder = hostile, hostile
			r.Networks = []Network{{Builder: hostile, Steps: "host", Reason: hostile}}
			r.Result.Steps = []solve.Step{{Name: hostile, Error: hostile}}
			r.Result.Sources = []cacheplan.Source{{Cache: hostile, Name: hostile, Why: hostile, State: cacheplan.Failed, Err: errors.New(hostile)}}
			r.Result.Exports = []solve.Export{{Cache: hostile, Name: hostile, Outcome: solve.Broken, Err: errors.New(hostile)}}
			r.Result.Misses = []cachemiss.Reason{{Stage: hostile, Platform: hostile, Step: hostile, Text: hostile, Scope: hostile}}
			r.Result.Metadata = map[string]string{"image.name": hostile}
			r.Result.Warnings = []solve.Warning{{Text: "x " + hostile, Detail: hostile, URL: hostile, Place: solve.Place{File: hostile, Line: 1}}}
			r.Result.Failure = &solve.Failure{Place: solve.Place{File: hostile, Line: 2, EndLine: 3}, Step: hostile, Log: hostile}
			r.Warnings, r.Result.Retried, r.Err = []string{hostile}, hostile, errors.New(hostile)
		}),
	}
}

// TestForms compares every form of every report with its golden file. The outputs are those of the
// dotenv file, apart from random delimiters.
func TestForms(t *testing.T) {
	t.Parallel()
	for name, r := range reports() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var console, dotenv bytes.Buffer
			document, err := r.JSON()
			log := new(Redactor).Log(&console)
			if err := errors.Join(err, r.Console(log), log.Close(), Dotenv(&dotenv, r.Outputs())); err != nil {
				t.Fatal(err)
			}
			got := txtar.Archive{Files: []txtar.File{
				{Name: "console", Data: console.Bytes()},
				{Name: "warmlayer.md", Data: []byte(r.Markdown())},
				{Name: "warmlayer.json", Data: document},
				{Name: "warmlayer.env", Data: dotenv.Bytes()},
				{Name: "annotations", Data: []byte(runner("GITHUB_ACTIONS=true").Notes(r.Notes(true, same)))},
				{Name: "azure", Data: []byte(runner("TF_BUILD=True").Notes(r.Notes(true, same)))},
			}}
			golden(t, filepath.Join("testdata", name+".txtar"), &got)
		})
	}
}

func golden(t *testing.T, file string, got *txtar.Archive) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(want.Files) != len(got.Files) {
		t.Fatalf("%s has %d files, want %d", file, len(want.Files), len(got.Files))
	}
	for i, f := range got.Files {
		if w := want.Files[i]; w.Name != f.Name || !bytes.Equal(w.Data, f.Data) {
			t.Errorf("%s:\n%swant %s:\n%s", f.Name, f.Data, w.Name, w.Data)
		}
	}
}
