package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// exampleOfBake is a copy of the repository in examples/ with a bake file, and the arguments with which it is built here.
func exampleOfBake(t *testing.T, registry string) (dir string, args []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "bake")
	if err := os.CopyFS(dir, os.DirFS("examples/bake")); err != nil {
		t.Fatal(err)
	}
	base := standIn(t, registry+"/base/busybox", busyboxFile)
	return dir, []string{"--bake", "docker-bake.hcl", "--vars", "REGISTRY=" + registry + "/acme", "--vars", "BASE=" + base, "--cache", "type=registry,ref=" + registry + "/cache"}
}

// baked runs a build on the daemon of the image.
func baked(t *testing.T, dir, branch string, args ...string) testkit.Output {
	t.Helper()
	return testkit.Invocation{Dir: dir, Branch: branch, Args: args, Env: map[string]string{"PATH": testkit.ImagePath(t)}}.Start(t)
}

// TestBakeExample: the repository in examples/ is built as main, and every target is warm on a branch.
func TestBakeExample(t *testing.T) {
	t.Parallel()
	registry := testkit.StartRegistry(t).Host
	dir, args := exampleOfBake(t, registry)
	args = append(args, "--push")
	cold := baked(t, dir, "main", args...)
	if cold.Code != 0 {
		t.Fatalf("exit code %d:\n%s", cold.Code, cold.Text)
	}
	warm := baked(t, dir, "feature", args...)
	var names []string
	for _, i := range warm.Report.Images {
		names = append(names, i.Target)
		if i.Hits != i.Steps || i.Steps == 0 {
			t.Errorf("%s: %d of %d steps cached", i.Target, i.Hits, i.Steps)
		}
		if pushed := i.Target != "tools"; pushed != (i.Digest != "") || pushed != (i.Metadata["containerimage.digest"] == i.Digest && i.Digest != "") {
			t.Errorf("%s: digest %q, metadata %v", i.Target, i.Digest, i.Metadata)
		}
	}
	if want := []string{"api", "tools", "worker"}; !slices.Equal(names, want) || warm.Code != 0 {
		t.Errorf("exit code %d, targets %v:\n%s", warm.Code, names, warm.Text)
	}
	for _, e := range warm.Report.Exports {
		if !strings.HasPrefix(e.Name, "b-feature.bake-") || e.Outcome != "written" {
			t.Errorf("export %+v", e)
		}
	}
	if want := []string{registry + "/acme/api:latest"}; !slices.Equal(warm.Report.Images[0].Tags, want) {
		t.Errorf("tags %v", warm.Report.Images[0].Tags)
	}
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM "+registry+"/acme/worker:latest\nRUN grep 'hello from the worker' /app/hello\n")
	testkit.Invocation{Dir: app, Branch: "main", Args: []string{"--cache", "none", "--outputs", "type=cacheonly"}}.Build(t)
}

// TestBakeOutputs: on GitHub the output metadata is as docker/bake-action has it: an object for each target.
func TestBakeOutputs(t *testing.T) {
	t.Parallel()
	registry := testkit.StartRegistry(t).Host
	dir, args := exampleOfBake(t, registry)
	outputs := filepath.Join(t.TempDir(), "outputs")
	testkit.Write(t, outputs, "")
	out := testkit.Invocation{Dir: dir, Branch: "main", Args: append(args, "--push", "--trusted"), Env: map[string]string{
		"PATH": testkit.ImagePath(t), "GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": outputs, "GITHUB_REPOSITORY": "acme/shop", "GITHUB_EVENT_NAME": "push", "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch",
	}}.Start(t)
	written, err := os.ReadFile(outputs)
	if err != nil || out.Code != 0 {
		t.Fatalf("%v, exit code %d:\n%s", err, out.Code, out.Text)
	}
	var metadata map[string]any
	for line := range strings.Lines(string(written)) {
		if strings.HasPrefix(line, "{") {
			if err := json.Unmarshal([]byte(line), &metadata); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	delete(metadata, "buildx.build.warnings")
	api, _ := metadata["api"].(map[string]any)
	if want := []string{"api", "tools", "worker"}; !slices.Equal(slices.Sorted(maps.Keys(metadata)), want) || api["image.name"] != registry+"/acme/api:latest" {
		t.Errorf("metadata %v:\n%s", metadata, written)
	}
}

// TestBakeContextOnce: a directory that is the context of several targets is sent once, exports of their caches included.
func TestBakeContextOnce(t *testing.T) {
	t.Parallel()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nARG NAME\nCOPY large /large\nRUN echo $NAME > /name\n")
	testkit.Write(t, filepath.Join(app, "large"), strings.Repeat("0123456789abcdef", 1<<16))
	testkit.Write(t, filepath.Join(app, "docker-bake.hcl"), `
target "default" {
  name = "t${n}"
  matrix = { n = [1, 2, 3, 4] }
  args = { NAME = "t${n}" }
  output = ["type=cacheonly"]
}`)
	opened := watchOpens(t, filepath.Join(app, "large"))
	out := baked(t, app, "main", "--targets", "default", "--cache", "type=local,dest="+testkit.Temp(t))
	if out.Code != 0 || len(out.Report.Images) != 4 || strings.Contains(out.Text, "skipped") {
		t.Fatalf("exit code %d:\n%s", out.Code, out.Text)
	}
	if n := opened(); n != 1 {
		t.Errorf("the file was read %d times:\n%s", n, out.Text)
	}
}

// watchOpens counts how often a file is opened from now on.
func watchOpens(t *testing.T, file string) (opened func() int) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, file, unix.IN_OPEN)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func() int {
		n, buffer := 0, make([]byte, 1<<16)
		for {
			read, err := unix.Read(fd, buffer)
			if err != nil || read <= 0 {
				return n
			}
			n += read / int(unsafe.Sizeof(unix.InotifyEvent{})) // of a file, without a name
		}
	}
}

// TestBakePlan: the plan shows each target, and is without a builder.
func TestBakePlan(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(testkit.Program(t), "plan", "--context", "examples/bake", "--targets", "default", "--branch", "feature", "--default-branch", "main", "--trusted", "--cache", "type=registry,ref=registry.example/cache").CombinedOutput()
	for _, target := range []string{"api", "tools", "worker"} {
		want := "target " + target + "\nwrites  b-feature.context-examples-bake-bake-" + target + "-"
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: no %q in\n%s", err, want, out)
		}
	}
}

// TestBakeCall: a check answers for each target, as docker buildx bake does.
func TestBakeCall(t *testing.T) {
	t.Parallel()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "bad.Dockerfile"), "from scratch as b\nADD rootfs.tar /\n")
	testkit.Write(t, filepath.Join(app, "docker-bake.hcl"), `
group "default" { targets = ["good", "bad"] }
target "good" {
  description = "has nothing wrong"
  contexts = { other = "target:bad" }
}
target "bad" { dockerfile = "bad.Dockerfile" }`)
	out := baked(t, app, "main", "--targets", "default", "--call", "check", "--cache", "none")
	for _, want := range []string{"good\nhas nothing wrong\n\nCheck complete, no warnings found.\n", "bad\n\nCheck complete, ", "ConsistentInstructionCasing"} {
		if !strings.Contains(out.Text, want) {
			t.Errorf("no %q in\n%s", want, out.Text)
		}
	}
	if out.Code != 1 {
		t.Errorf("exit code %d", out.Code)
	}
}

// TestBakeFailure: a target that fails says which it is, and the others are given up.
func TestBakeFailure(t *testing.T) {
	t.Parallel()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "docker-bake.hcl"), `
group "default" { targets = ["works", "fails", "follows"] }
target "works" { output = ["type=cacheonly"] }
target "fails" {
  dockerfile-inline = "FROM scratch\nADD rootfs.tar /\nRUN echo on purpose && false\n"
  output = ["type=cacheonly"]
}
target "follows" {
  dockerfile-inline = "FROM fails\nRUN true\n"
  contexts = { fails = "target:fails" }
  output = ["type=cacheonly"]
}`)
	out := baked(t, app, "main", "--targets", "default", "--cache", "type=local,dest="+testkit.Temp(t))
	for _, want := range []string{"build failed, 3 targets", "on purpose"} {
		if !strings.Contains(out.Text, want) {
			t.Errorf("no %q in\n%s", want, out.Text)
		}
	}
	if out.Code != 1 || !strings.Contains(out.Report.Error, "fails: ") && !strings.Contains(out.Report.Error, "follows: ") {
		t.Errorf("exit code %d, error %s", out.Code, out.Report.Error)
	}
}

// TestBakeMany: every target of a matrix is warm on a branch, whichever target ends first, with any kind of cache.
func TestBakeMany(t *testing.T) {
	t.Parallel()
	for name, cache := range map[string]string{"local": "type=local,dest=" + testkit.Temp(t), "registry": "type=registry,ref=" + testkit.StartRegistry(t).Host + "/cache"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := testkit.App(t)
			testkit.Write(t, filepath.Join(app, "Dockerfile"),
				"FROM scratch AS base\nADD rootfs.tar /\nCOPY site site\nRUN echo base > /base\nFROM base AS made\nARG NAME\nRUN test $NAME = t1 || cat /base; echo $NAME > /made\nFROM base\nCOPY --from=made /made /made\nRUN cat /made > /last\n")
			testkit.Write(t, filepath.Join(app, "docker-bake.hcl"), `
target "default" {
  name = "t${n}"
  matrix = { n = [1, 2, 3, 4, 5, 6] }
  args = { NAME = "t${n}" }
  output = ["type=cacheonly"]
}`)
			args := []string{"--targets", "default", "--cache", cache}
			for i, branch := range []string{"main", "one", "two"} {
				out := baked(t, app, branch, args...)
				if out.Code != 0 || i > 0 && out.Report.Cached() != len(out.Report.Steps) {
					t.Errorf("%s: exit code %d, %d of %d steps cached:\n%s", branch, out.Code, out.Report.Cached(), len(out.Report.Steps), out.Text)
				}
				for _, e := range out.Report.Exports {
					if e.Outcome != "written" {
						t.Errorf("%s: %v", branch, fmt.Sprint(e))
					}
				}
			}
		})
	}
}

// TestBakeElsewhere: bake files work on a builder that runs already, whose caches are BuildKit's own, and with a cache in the images.
func TestBakeElsewhere(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"remote", "inline"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := testkit.StartRegistry(t).Host
			dir, args := exampleOfBake(t, registry)
			args = append(args, "--push")
			builder := func() []string { return nil }
			if name == "remote" {
				builder = func() []string { return []string{"--builder", testkit.StartBuildkitd(t)} }
			} else {
				args = append(args, "--cache", "inline")
			}
			for i, branch := range []string{"main", "feature"} {
				out := baked(t, dir, branch, append(builder(), args...)...)
				if out.Code != 0 || len(out.Report.Images) != 3 {
					t.Fatalf("%s: exit code %d:\n%s", branch, out.Code, out.Text)
				}
				for _, image := range out.Report.Images {
					if i > 0 && image.Hits == 0 {
						t.Errorf("%s: %s has no step from a cache:\n%s", branch, image.Target, out.Text)
					}
				}
				for _, e := range out.Report.Exports {
					if e.Outcome != "written" && (name != "inline" || e.Error == "") {
						t.Errorf("%s: %+v", branch, e)
					}
				}
			}
		})
	}
}
