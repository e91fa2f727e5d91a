package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestBuildxContainer builds on a buildx builder by its name. The name is found in buildx's store
// or, in a step without access to the store, among the engine's containers.
func TestBuildxContainer(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	host, app, cache := testkit.StartDockerd(t), testkit.App(t), filepath.Join(t.TempDir(), "cache")
	image := testkit.LoadOwnImage(t, host)
	testkit.CreateBuildkit(t, host, image, "buildx_buildkit_ci0")
	store := map[string]string{"BUILDX_CONFIG": t.TempDir(), "DOCKER_HOST": host}
	testkit.Buildx(t, store, "create", "--name", "ci", "--driver", "docker-container", "--driver-opt", "image="+image)
	run := func(env map[string]string, flags ...string) testkit.Output {
		t.Helper()
		return testkit.Invocation{Dir: app, Branch: "main", Env: env, Args: append([]string{
			"--outputs", "type=cacheonly", "--cache", "type=local,src=" + cache + ",dest=" + cache,
		}, flags...)}.Start(t)
	}
	const address = "docker-container://buildx_buildkit_ci0"
	for _, test := range []struct {
		name string
		env  map[string]string
		args []string
	}{
		{"the store, and the engine that it names", map[string]string{"BUILDX_CONFIG": store["BUILDX_CONFIG"]}, []string{"--builder", "CI"}},
		{"the engine", map[string]string{"DOCKER_HOST": host}, []string{"--builder", "ci"}},
		{"a variable", map[string]string{"DOCKER_HOST": host, "BUILDX_BUILDER": "ci"}, []string{"--builder", "auto"}},
	} {
		out := run(test.env, test.args...)
		if out.Code != 0 || out.Report.Builder != address {
			t.Errorf("%s: exit code %d, builder %q\n%s", test.name, out.Code, out.Report.Builder, out.Text)
		}
	}
	step := newAction(t, host, image)
	code, said, report := step.step(t, "1", nil, "INPUT_BUILDER=ci", "INPUT_OUTPUTS=type=cacheonly", "INPUT_CACHE=none", "INPUT_PROGRESS=plain")
	if code != 0 || report.Builder != address {
		t.Errorf("a step in a container: exit code %d, builder %q\n%s", code, report.Builder, said)
	}
	out := run(map[string]string{"DOCKER_HOST": host}, "--builder", "cy")
	want := "the container engine at " + host + " has no buildx builder cy"
	if out.Code != 1 || !strings.Contains(out.Text, want) || !strings.Contains(out.Text, "use one that exists (ci), start it") {
		t.Errorf("a name that is unknown to the engine: exit code %d\n%s", out.Code, out.Text)
	}
	out = run(store, "--builder", "cy")
	if want := "builder: buildx has no builder \"cy\" here\nhint: did you mean \"ci\"?\n"; out.Code != 2 || !strings.HasSuffix(out.Text, want) {
		t.Errorf("a name that is unknown to the store: exit code %d\n%s", out.Code, out.Text)
	}
}

// TestBuildxNodes builds on the nodes of one builder, each for its own platforms. A build without
// platforms uses the first node only.
func TestBuildxNodes(t *testing.T) {
	t.Parallel()
	registry, app := testkit.StartRegistry(t).Host, testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), portableFile)
	store := map[string]string{"BUILDX_CONFIG": t.TempDir()}
	amd, arm := testkit.StartBuildkitd(t), testkit.StartBuildkitd(t)
	testkit.Buildx(t, store, "create", "--name", "both", "--driver", "remote", "--platform", "linux/amd64,linux/386", amd)
	testkit.Buildx(t, store, "create", "--name", "both", "--append", "--platform", "linux/arm64", arm)
	for _, test := range []struct {
		platforms, builder string
	}{
		{"linux/amd64,linux/arm64", amd + ", " + arm},
		{"linux/arm64", arm},
		{"", amd},
	} {
		out := testkit.Invocation{Dir: app, Branch: "main", Env: store, Args: []string{
			"--builder", "both", "--platforms", test.platforms, "--tags", registry + "/app:v1", "--push", "--cache", "none",
		}}.Start(t)
		if out.Code != 0 || out.Report.Builder != test.builder {
			t.Errorf("platforms %q: exit code %d, builder %q\n%s", test.platforms, out.Code, out.Report.Builder, out.Text)
		}
	}
}
