package e2e

import (
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

func TestBuildkiteHook(t *testing.T) {
	t.Parallel()
	bats, err := exec.LookPath("bats")
	testkit.Need(t, "bats", err)
	if said, err := exec.Command(bats, "testdata/buildkite/command.bats").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}

// The agent encodes a plugin's configuration as JSON. Its texts, lists and objects reach the build.
func TestBuildkitePlugin(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("buildkitd")
	testkit.Need(t, "buildkitd", err)
	hook, err := filepath.Abs("hooks/command")
	if err != nil {
		t.Fatal(err)
	}
	registry, app := testkit.StartRegistry(t).Host, testkit.App(t)
	step := func(configuration string) string {
		t.Helper()
		return pluginStep(t, hook, app, configuration)
	}
	said := step(`"builder": "embedded", "tags": ["` + registry + `/shop:one", "` + registry + `/shop:two"], "push": true,` +
		`"labels": {"org.example.a": "x,y", "org.example.b": 2}, "cache": [{"type": "registry", "ref": "` + registry + `/cache"}, "inline"]`)
	for _, want := range []string{"\n+++ Report\nwarmlayer: b-main (branch main (webhook))\n", "/shop:one " + registry + "/shop:two\n", "written  b-main  registry"} {
		if !strings.Contains(said, want) {
			t.Errorf("the log has no %q:\n%s", want, said)
		}
	}
	for _, platform := range []string{"linux/amd64", "linux/386"} {
		step(`"builder": "embedded", "tags": "` + registry + `/shop:parts", "push": true, "part": true, "platforms": ["` + platform + `"], "cache": "inline"`)
	}
	said = step(`"command": "merge", "push": true, "tags": "` + registry + `/shop:parts", "platforms": ["linux/amd64", "linux/386"]`)
	if want := "warmlayer: one image of 2 parts\n"; !strings.Contains(said, want) {
		t.Errorf("the log has no %q:\n%s", want, said)
	}
	said = step(`"command": "prune", "scopes": ["b-main"], "cache": [{"type": "registry", "ref": "` + registry + `/cache"}]`)
	if want := "removed  b-main  branch main"; !strings.Contains(said, want) {
		t.Errorf("the log has no %q:\n%s", want, said)
	}
}

// pluginStep runs the plugin's hook with a configuration, for main, and returns the log.
func pluginStep(t *testing.T, hook, app, configuration string) string {
	t.Helper()
	cmd := exec.Command(hook)
	cmd.Dir = app
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"BUILDKITE=true", "BUILDKITE_SOURCE=webhook", "BUILDKITE_BRANCH=main", "BUILDKITE_BUILD_ID=01a2", "BUILDKITE_COMMIT=" + strings.Repeat("0a", 20), "BUILDKITE_PULL_REQUEST=false", "BUILDKITE_PIPELINE_DEFAULT_BRANCH=main",
		"BUILDKITE_PLUGIN_NAME=WARMLAYER", "BUILDKITE_PLUGIN_WARMLAYER_IMAGE=none", "BUILDKITE_PLUGIN_WARMLAYER_PASS_0=TOKEN",
		`BUILDKITE_PLUGIN_CONFIGURATION={"image": "none", "pass": ["TOKEN"], "progress": "plain", ` + configuration + `}`,
	}
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return string(said)
}

// The hook with a real docker: the image runs in a container without privileges, and builds the
// agent's checkout in another container.
func TestBuildkiteDocker(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	_, err := exec.LookPath("/usr/bin/docker")
	testkit.Need(t, "dockerd", err)
	host := testkit.StartDockerd(t)
	image, registry := testkit.LoadOwnImage(t, host), testkit.StartRegistry(t).Host
	agent := t.TempDir()
	testkit.Write(t, filepath.Join(agent, "buildkite-agent"), "#!/bin/sh\necho \"$*\" >> agent.log && cat >> agent.log\n")
	if err := os.Chmod(filepath.Join(agent, "buildkite-agent"), 0o755); err != nil {
		t.Fatal(err)
	}
	hook, err := filepath.Abs("hooks/command")
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []struct{ branch, headline, cached string }{
		{"main", "b-main (branch main", "0 of 9 cached"}, {"fix/login", "b-fix-login-5e870e243b80067b (branch fix/login", "9 of 9 cached"},
	} {
		cmd := exec.Command(hook)
		cmd.Dir = testkit.App(t)
		cmd.Env = []string{
			"PATH=" + agent + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + t.TempDir(), "DOCKER_HOST=" + host,
			"CI=true", "BUILDKITE=true", "BUILDKITE_SOURCE=webhook", "BUILDKITE_BRANCH=" + run.branch, "BUILDKITE_PULL_REQUEST=false",
			"BUILDKITE_PIPELINE_DEFAULT_BRANCH=main", "BUILDKITE_MESSAGE=two\nlines=here", "BUILDKITE_JOB_ID=018f-4c2e",
			"BUILDKITE_AGENT_ACCESS_TOKEN=bkaj_token", "BUILDKITE_BUILD_CHECKOUT_PATH=" + cmd.Dir,
			"BUILDKITE_PLUGIN_NAME=WARMLAYER", "BUILDKITE_PLUGIN_WARMLAYER_IMAGE=" + image,
			"BUILDKITE_PLUGIN_WARMLAYER_PRIVILEGED=false", "BUILDKITE_PLUGIN_WARMLAYER_CONTAINER_NETWORK=host",
			`BUILDKITE_PLUGIN_CONFIGURATION={"image": "` + image + `", "privileged": false, "container-network": "host", "progress": "plain",` +
				`"tags": ["` + registry + `/shop:one"], "push": true, "cache": [{"type": "registry", "ref": "` + registry + `/cache"}]}`,
		}
		said, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		for _, want := range []string{"\n+++ Report\nwarmlayer: " + run.headline, run.cached, registry + "/shop:one\n"} {
			if !strings.Contains(string(said), want) {
				t.Errorf("the log has no %q:\n%s", want, said)
			}
		}
		if calls, err := os.ReadFile(filepath.Join(cmd.Dir, "agent.log")); !strings.Contains(string(calls), "annotate --style success --context warmlayer-018f-4c2e\n### ") {
			t.Errorf("the agent's calls are %q, %v", calls, err)
		}
		if left := testkit.Containers(t, host); len(left) != 0 {
			t.Errorf("containers remain: %v", left)
		}
	}
}

// The plugin's schema has every input, and refuses other properties.
func TestBuildkiteSchema(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("plugin.yml")
	if err != nil {
		t.Fatal(err)
	}
	var plugin struct {
		Name          string
		Configuration struct {
			Properties           map[string]map[string]any
			AdditionalProperties *bool `yaml:"additionalProperties"`
		}
	}
	if err := yaml.Unmarshal(content, &plugin); err != nil {
		t.Fatal(err)
	}
	schema := plugin.Configuration
	if plugin.Name != "warmlayer" || schema.AdditionalProperties == nil || *schema.AdditionalProperties {
		t.Errorf("plugin %q, additional properties %v", plugin.Name, schema.AdditionalProperties)
	}
	for _, f := range inputs.Fields {
		property := schema.Properties[f.Name]
		if property["type"] == nil && property["anyOf"] == nil {
			t.Errorf("%s has no type: %v", f.Name, property)
		}
		if enum, _ := property["enum"].([]any); len(enum) != len(f.Choices) {
			t.Errorf("%s is one of %v, want %v", f.Name, enum, f.Choices)
		}
		delete(schema.Properties, f.Name)
	}
	var more []string
	for name := range schema.Properties {
		more = append(more, name)
	}
	slices.Sort(more)
	if !slices.Equal(more, []string{"container-network", "image", "pass", "privileged", "volumes"}) {
		t.Errorf("more properties: %q", more)
	}
}
