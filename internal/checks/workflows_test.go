package checks

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// workflow is the part of a GitHub workflow about permissions, timeouts and actions.
type workflow struct {
	Permissions map[string]string
	Jobs        map[string]struct {
		Uses    string
		Timeout int `yaml:"timeout-minutes"`
		Steps   []struct {
			Uses, Run string
			With      map[string]any
		}
	}
}

var (
	usesLine = regexp.MustCompile(`(?m)^ *(?:- )?uses: (.*)$`)
	pinned   = regexp.MustCompile(`^([\w-]+/[\w-]+)[\w/-]*@([0-9a-f]{40} # v\d+\.\d+\.\d+)$`)
)

// The workflows grant only the permissions that a job requests, pin every action by a commit, and
// run no text from outside as a script. actionlint finds other mistakes.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(".github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	k, ours, pins := knownNames(t), 0, map[string]string{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range usesLine.FindAllStringSubmatch(string(content), -1) {
			pin := pinned.FindStringSubmatch(line[1])
			switch {
			case strings.HasPrefix(line[1], "./"):
			case pin == nil:
				t.Errorf("%s: %s is not pinned by a commit, with its version in a comment", file, line[1])
			case pins[pin[1]] != "" && pins[pin[1]] != pin[2]:
				t.Errorf("%s: %s is %s here, and %s elsewhere", file, pin[1], pin[2], pins[pin[1]])
			default:
				pins[pin[1]] = pin[2]
			}
		}
		var w workflow
		var document any
		if err := yaml.Unmarshal(content, &w); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := yaml.Unmarshal(content, &document); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		w.check(t, file)
		ours += k.check(t, document)
	}
	if ours < 4 {
		t.Errorf("the workflows use the action %d times", ours)
	}
}

func (w workflow) check(t *testing.T, file string) {
	t.Helper()
	if w.Permissions == nil || len(w.Permissions) > 0 {
		t.Errorf("%s: permissions are %v, want {}", file, w.Permissions)
	}
	for name, job := range w.Jobs {
		if job.Timeout == 0 && job.Uses == "" {
			t.Errorf("%s: job %s has no timeout", file, name)
		}
		for _, step := range job.Steps {
			if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false {
				t.Errorf("%s: job %s keeps the token of its checkout", file, name)
			}
			if strings.Contains(step.Run, "${{") {
				t.Errorf("%s: job %s has an expression in a script:\n%s", file, name, step.Run)
			}
		}
	}
}

// What a release signs comes from no cache: neither from one that another workflow could have
// written, nor from the runner's.
func TestReleaseUsesNoCache(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(".github/workflows/release.yml")
	if err != nil {
		t.Fatal(err)
	}
	var w workflow
	if err := yaml.Unmarshal(content, &w); err != nil {
		t.Fatal(err)
	}
	builds := 0
	for name, job := range w.Jobs {
		for _, step := range job.Steps {
			if strings.HasPrefix(step.Uses, "actions/cache") {
				t.Errorf("job %s restores a cache", name)
			}
			if strings.HasPrefix(step.Uses, "actions/setup-go@") && step.With["cache"] != false {
				t.Errorf("job %s compiles with a cache of modules and objects", name)
			}
			if step.Uses != "./" {
				continue
			}
			builds++
			for _, input := range []string{"cache-from", "cache-to"} {
				if step.With[input] != nil {
					t.Errorf("job %s sets %s", name, input)
				}
			}
			if step.With["cache"] != "none" {
				t.Errorf("job %s builds with cache: %v, want none", name, step.With["cache"])
			}
		}
	}
	if builds != 2 {
		t.Errorf("the release builds %d images, want 2", builds)
	}
}

// The image that users run is made of base images that cannot change: each FROM names a stage or a
// digest.
func TestBaseImages(t *testing.T) {
	t.Parallel()
	stages, bases := map[string]bool{}, 0
	for _, line := range fromLine.FindAllStringSubmatch(readText(t, "Dockerfile"), -1) {
		image, stage := line[1], line[2]
		if !stages[image] {
			bases++
			if !digested.MatchString(image) {
				t.Errorf("%s is not named by its digest", image)
			}
		}
		stages[stage] = true
	}
	if bases != 2 {
		t.Errorf("the Dockerfile has %d base images", bases)
	}
}

var (
	fromLine = regexp.MustCompile(`(?m)^FROM (?:--\S+ )?(\S+)(?: AS (\S+))?$`)
	digested = regexp.MustCompile(`^docker\.io/library/[a-z]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}$`)
)
