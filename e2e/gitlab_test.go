package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// pipeline includes the component from the project's own files. A real project includes it from
// GitLab.
const pipeline = `
stages: [images]
include:
  - local: templates/build.yml
    inputs:
      job: container
      stage: images
      privileged: true
      tags: |
        $REGISTRY/shop:one
        $REGISTRY/shop:two
      push: true
      labels: note="quoted", and more
      cache: type=registry,ref=$REGISTRY/shop
      progress: plain
`

// newGitLabProject is a project with the pipeline.
func newGitLabProject(t *testing.T, pipeline string) project {
	t.Helper()
	component, err := os.ReadFile("templates/build.yml")
	if err != nil {
		t.Fatal(err)
	}
	return newProject(t, "git@gitlab.example:acme/shop.git", map[string]string{
		"templates/build.yml": string(component), ".gitlab-ci.yml": pipeline, ".gitignore": "/.gitlab-ci-local/\n/.warmlayer/\n",
	})
}

// shell is the executor for jobs whose image cannot be pulled: they run on the machine itself.
var shell = []string{"--force-shell-executor"}

// job runs the component's job on an executor, with more variables, and returns its log.
func (p project) job(t *testing.T, runner string, executor []string, variables ...string) string {
	t.Helper()
	args := append([]string{"container", "--no-color"}, executor...)
	for _, v := range append(variables, "GITLAB_CI=true") {
		args = append(args, "--variable", v)
	}
	stdout, stderr := p.run(t, runner, args...) // stdout has the sections, stderr the job's errors
	return stdout + stderr
}

// gitlabRunner is gitlab-ci-local, which runs a pipeline's jobs on one machine.
func gitlabRunner(t *testing.T) string {
	t.Helper()
	runner, err := filepath.Abs("testdata/gitlab/node_modules/.bin/gitlab-ci-local")
	if err == nil {
		_, err = exec.LookPath(runner)
	}
	testkit.Need(t, "gitlab", err)
	return runner
}

// buildsWarm runs the component's job for main, and then for a merge request, which finds all steps
// in main's cache on an empty builder.
func (p project) buildsWarm(t *testing.T, runner string, executor []string, registry string) {
	t.Helper()
	log := p.job(t, runner, executor, "REGISTRY="+registry)
	for _, want := range []string{" took ", "warmlayer: b-main (push to main)", "0 of 9 cached", "written  b-main"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log of main has no %q:\n%s", want, log)
		}
	}
	p.git(t, "switch", "--quiet", "--create", "fix/login")
	log = p.job(t, runner, executor, "REGISTRY="+registry, "CI_PIPELINE_SOURCE=merge_request_event",
		"CI_MERGE_REQUEST_IID=12", "CI_MERGE_REQUEST_PROJECT_ID=7", "CI_MERGE_REQUEST_SOURCE_PROJECT_ID=7",
		"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME=fix/login", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME=main")
	for _, want := range []string{"warmlayer: pr-12 (pull request 12)", "9 of 9 cached", "/shop:two"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log of the merge request has no %q:\n%s", want, log)
		}
	}
}

// pruning is a pipeline that removes what the merge request has left.
const pruning = `
stages: [images]
include:
  - local: templates/build.yml
    inputs:
      job: container
      stage: images
      privileged: true
      command: prune
      scopes: pr-12
      cache: type=registry,ref=$REGISTRY/shop
container:
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule"
`

// prunes runs the component on a schedule, as a job that prunes.
func (p project) prunes(t *testing.T, runner string, executor []string, registry string) {
	t.Helper()
	p.git(t, "switch", "--quiet", "main")
	testkit.Write(t, filepath.Join(p.dir, ".gitlab-ci.yml"), pruning)
	log := p.job(t, runner, executor, "REGISTRY="+registry, "CI_PIPELINE_SOURCE=schedule")
	for _, want := range []string{"removed  pr-12  pull request 12", "removed 1 scope; the registry's own garbage collection frees the layers"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log of the prune has no %q:\n%s", want, log)
		}
	}
}

// merging is a pipeline of two jobs that each build a platform, and of one that makes one image of them.
const merging = `
stages: [parts, image]
include:
  - local: templates/build.yml
    inputs: {job: amd64, stage: parts, privileged: true, platforms: linux/amd64, part: true, push: true, tags: $REGISTRY/shop:parts}
  - local: templates/build.yml
    inputs: {job: i386, stage: parts, privileged: true, platforms: linux/386, part: true, push: true, tags: $REGISTRY/shop:parts}
  - local: templates/build.yml
    inputs: {job: merge, stage: image, privileged: true, command: merge, push: true, platforms: "linux/amd64,linux/386", tags: $REGISTRY/shop:parts}
`

// merges runs the whole pipeline.
func (p project) merges(t *testing.T, runner string, executor []string, registry string) {
	t.Helper()
	testkit.Write(t, filepath.Join(p.dir, ".gitlab-ci.yml"), merging)
	stdout, stderr := p.run(t, runner, append([]string{"--no-color", "--variable", "REGISTRY=" + registry, "--variable", "GITLAB_CI=true"}, executor...)...)
	if log := stdout + stderr; !strings.Contains(log, "warmlayer: one image of 2 parts") || !strings.Contains(log, "/shop:parts") {
		t.Errorf("the log has no merged image:\n%s", log)
	}
}

func TestGitLabComponent(t *testing.T) {
	t.Parallel()
	runner := gitlabRunner(t)
	_, err := exec.LookPath("buildkitd")
	testkit.Need(t, "buildkitd", err)
	p := newGitLabProject(t, pipeline)
	registry := testkit.StartRegistry(t).Host
	p.buildsWarm(t, runner, shell, registry)
	p.prunes(t, runner, shell, registry)
	p.merges(t, runner, shell, registry)
	artifacts, err := filepath.Glob(filepath.Join(p.dir, ".gitlab-ci-local", "artifacts", "container", ".warmlayer", "*"))
	if err != nil || len(artifacts) < 2 {
		t.Errorf("artifacts %q, %v", artifacts, err)
	}
}

// securityOpt replaces docker: it adds the settings for containers that a runner has in its
// config.toml.
const securityOpt = `#!/bin/sh
export DOCKER_HOST=%s
if [ "$1" = create ]; then
	shift
	set -- create --security-opt seccomp=unconfined --security-opt apparmor=unconfined "$@"
fi
exec /usr/bin/docker "$@"
`

// rootlessJob runs the job with the component's defaults: as a user, in a container without
// privileges, from warmlayer's own image. Helper is an image with a shell, for the runner.
func rootlessJob(t *testing.T, host, image, helper, registry string) {
	t.Helper()
	runner := gitlabRunner(t)
	docker := filepath.Join(t.TempDir(), "docker")
	testkit.Write(t, docker, fmt.Sprintf(securityOpt, host))
	if err := os.Chmod(docker, 0o755); err != nil {
		t.Fatal(err)
	}
	executor := []string{"--container-executable", docker, "--helper-image", helper, "--pull-policy", "if-not-present", "--network", "host"}
	p := newGitLabProject(t, strings.Replace(pipeline, "privileged: true", "image: "+image, 1))
	p.buildsWarm(t, runner, executor, registry)
}

// GitLab parses the job: rootless by default, with all inputs passed on.
func TestGitLabJob(t *testing.T) {
	t.Parallel()
	runner := gitlabRunner(t)
	p := newGitLabProject(t, pipeline)
	type job struct {
		Image struct {
			Name       string
			Entrypoint []string
			Docker     struct{ User string }
		}
		Variables map[string]string
		Artifacts struct{ Reports struct{ Dotenv any } }
	}
	preview := func(ci string) job {
		testkit.Write(t, filepath.Join(p.dir, ".gitlab-ci.yml"), ci)
		var jobs map[string]yaml.Node
		expanded, _ := p.run(t, runner, "--preview")
		if err := yaml.Unmarshal([]byte(expanded), &jobs); err != nil {
			t.Fatal(err)
		}
		for name, node := range jobs {
			if name != "container" && name != "warmlayer" {
				continue
			}
			var j job
			if err := node.Decode(&j); err != nil {
				t.Fatal(err)
			}
			return j
		}
		t.Fatalf("no job in %v", jobs)
		return job{}
	}
	root, rootless := preview(pipeline), preview("include: [{local: templates/build.yml}]\n")
	if root.Variables["WARMLAYER_BUILDER"] != "embedded" || root.Image.Docker.User != "0:0" {
		t.Errorf("privileged: %+v", root)
	}
	if got := root.Variables["WARMLAYER_TAGS"]; got != "$REGISTRY/shop:one\n$REGISTRY/shop:two\n" {
		t.Errorf("tags %q", got)
	}
	if rootless.Variables["WARMLAYER_BUILDER"] != "rootless" || rootless.Image.Docker.User != "1000:1000" ||
		!slices.Equal(rootless.Image.Entrypoint, []string{""}) || rootless.Artifacts.Reports.Dotenv == nil {
		t.Errorf("rootless: %+v", rootless)
	}
	var environ []string
	for name, value := range rootless.Variables {
		environ = append(environ, name+"="+value)
	}
	if _, problems := inputs.Parse(nil, environ, p.dir); len(problems) > 0 {
		text, _ := json.Marshal(problems)
		t.Errorf("the component's defaults are not valid inputs: %s", text)
	}
}
