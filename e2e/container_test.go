package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// action runs the program as GitHub's runner runs a container action: in a container without
// privileges, with the engine's socket and some directories of the machine.
type action struct {
	engine *client.Client
	image  string
	work   string // directory of the runner's jobs, on the machine
	host   string
}

// newAction is an action from an image that the engine has, with the test app as its workspace.
func newAction(t *testing.T, host, image string) action {
	t.Helper()
	a := action{engine: testkit.Engine(t, host), image: image, work: testkit.Temp(t), host: host}
	for _, dir := range []string{"_github_home", "_runner_file_commands"} {
		if err := os.MkdirAll(filepath.Join(a.work, "_temp", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(a.work, "app", "app"), os.DirFS(testkit.App(t))); err != nil {
		t.Fatal(err)
	}
	return a
}

// step runs a step of a job, and returns its exit code, its output and its report.
func (a action) step(t *testing.T, run string, command []string, inputs ...string) (int, string, testkit.Report) {
	t.Helper()
	temp := filepath.Join(a.work, "_temp")
	code, said := runContainer(t, a.engine, &container.Config{
		Image: a.image, Cmd: command, WorkingDir: "/github/workspace",
		Env: append([]string{
			"GITHUB_ACTIONS=true", "GITHUB_WORKSPACE=/github/workspace", "GITHUB_REPOSITORY=o/app", "GITHUB_EVENT_NAME=push",
			"GITHUB_REF=refs/heads/main", "GITHUB_REF_NAME=main", "GITHUB_REF_TYPE=branch", "GITHUB_RUN_ID=" + run, "GITHUB_JOB=build",
			"RUNNER_NAME=runner", "RUNNER_TEMP=/github/runner_temp", "HOME=/github/home", "INPUT_DEFAULT-BRANCH=main",
			"GITHUB_OUTPUT=/github/file_commands/set_output",
		}, inputs...),
	}, &container.HostConfig{Binds: []string{
		strings.TrimPrefix(a.host, "unix://") + ":/var/run/docker.sock", a.work + "/app/app:/github/workspace",
		temp + ":/github/runner_temp", temp + "/_github_home:/github/home",
		temp + "/_runner_file_commands:/github/file_commands",
	}})
	var report testkit.Report
	if content, err := os.ReadFile(filepath.Join(temp, "warmlayer", "warmlayer.json")); err == nil {
		if err := json.Unmarshal(content, &report); err != nil {
			t.Fatal(err)
		}
	}
	return code, said, report
}

// runContainer runs a container until it ends, and returns its exit code and its output.
func runContainer(t *testing.T, engine *client.Client, config *container.Config, host *container.HostConfig) (code int, said string) {
	t.Helper()
	created, err := engine.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: config, HostConfig: host})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := engine.ContainerRemove(t.Context(), created.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}()
	ended := engine.ContainerWait(t.Context(), created.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := engine.ContainerStart(t.Context(), created.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended.Error:
		t.Fatal(err)
	case result := <-ended.Result:
		code = int(result.StatusCode)
	}
	log, err := engine.ContainerLogs(t.Context(), created.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var text bytes.Buffer
	if _, err := stdcopy.StdCopy(&text, &text, log); err != nil {
		t.Fatal(err)
	}
	return code, text.String()
}

// TestAction runs the steps of two jobs. They build in another container, made from the image of
// the step itself, with paths of the machine; after each job runs the post step.
func TestAction(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	host := testkit.StartDockerd(t)
	a := newAction(t, host, testkit.LoadOwnImage(t, host))
	inputs := []string{
		"INPUT_CACHE=type=local,src=" + a.work + "/_temp/cache,dest=" + a.work + "/_temp/cache",
		"INPUT_OUTPUTS=type=tar,dest=" + a.work + "/_temp/out.tar", "INPUT_PROGRESS=plain",
	}
	for _, run := range []string{"1", "2"} {
		code, said, report := a.step(t, run, nil, inputs...)
		if code != 0 {
			t.Fatalf("run %s: exit code %d:\n%s", run, code, said)
		}
		if run == "1" && (report.Cached() != 0 || report.Outcome(t) != "written") {
			t.Errorf("the first run: %d steps cached, export %s", report.Cached(), report.Outcome(t))
		}
		if run == "2" && (report.Cached() != len(report.Steps) || report.Source("b-main") != "loaded") {
			t.Errorf("the second run, on another builder: %d of %d steps cached; b-main %s", report.Cached(), len(report.Steps), report.Source("b-main"))
		}
		if archive, err := os.Stat(filepath.Join(a.work, "_temp", "out.tar")); err != nil || archive.Size() == 0 {
			t.Errorf("the output: %v", err)
		}
		if left := testkit.Containers(t, host); len(left) != 1 {
			t.Errorf("run %s: %d containers remain for later steps", run, len(left))
		}
		if code, said, _ := a.step(t, run, []string{"post"}); code != 0 || said != "" {
			t.Errorf("post: exit code %d:\n%s", code, said)
		}
		if left := testkit.Containers(t, host); len(left) != 0 {
			t.Errorf("run %s: containers remain: %v", run, left)
		}
	}
	code, said, _ := a.step(t, "3", nil, "INPUT_OUTPUTS=type=local,dest=/tmp/out")
	if want := "outputs: line 1: \"/tmp/out\" is not mounted into this container\nhint: "; code != 2 || !strings.Contains(said, want) {
		t.Errorf("a path that would be lost: exit code %d:\n%s", code, said)
	}
}

// TestMatrixOnOneMachine: two jobs of a matrix, whose variables are equal, run at the same time on two
// runners of one machine. Each has a builder, which the end of the other job leaves alone.
func TestMatrixOnOneMachine(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	host := testkit.StartDockerd(t)
	image := testkit.LoadOwnImage(t, host)
	jobs := []action{newAction(t, host, image), newAction(t, host, image)}
	for _, a := range jobs {
		if code, said, _ := a.step(t, "1", nil, "INPUT_CACHE=none", "INPUT_PROGRESS=plain"); code != 0 {
			t.Fatalf("exit code %d:\n%s", code, said)
		}
	}
	for left := len(jobs); left > 0; left-- {
		if found := testkit.Containers(t, host); len(found) != left {
			t.Errorf("%d jobs have the containers %v", left, found)
		}
		if code, said, _ := jobs[left-1].step(t, "1", []string{"post"}); code != 0 || said != "" {
			t.Errorf("post: exit code %d:\n%s", code, said)
		}
	}
	if left := testkit.Containers(t, host); len(left) > 0 {
		t.Errorf("containers remain: %v", left)
	}
}
