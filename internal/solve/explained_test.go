package solve

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/explain"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// fault is a build that fails for a reason that a person has to read.
type fault struct {
	name       string
	dockerfile string // after a stage with a shell called base, unless it begins with its own FROM or ARG
	change     func(*Request)
	line       int    // in the Dockerfile; 0: none
	what       string // all of it
	next       string // a part of it; "": there is none
	words      string // of BuildKit's own, in the error
}

// The names in a fault's texts that stand for addresses of the test's servers.
const (
	plainName    = "PLAIN"    // HTTP; answers with refusals
	registryName = "REGISTRY" // a real one
	gitName      = "GITHOST"
)

// TestExplained: each fault, tried on a real builder, says what happened, in which line, and what
// to do next. BuildKit's own words stay in the error.
func TestExplained(t *testing.T) {
	t.Parallel()
	net, registry, git := newInternet(t), testkit.StartRegistry(t).Host, repository(t)
	otherPlatform(t, registry+"/arm:1")
	places := strings.NewReplacer(plainName, net.Plain, registryName, registry, gitName, git)
	programs := programs(t)
	for _, test := range faults {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir, text := faultyApp(t, places.Replace(test.dockerfile))
			r := request(t, net.Daemon, dir)
			r.Inputs.Dockerfile.Text = text
			r.Inputs.Context.Source = "e"
			r.Inputs.BuildContexts = []inputs.Context{{Name: "programs", Source: "programs", Dir: programs}}
			r.Login = func(_ context.Context, repository string, _ bool) explain.Login {
				if strings.HasSuffix(repository, "/s403/private") {
					return explain.Login{User: "bob", From: "the input registry-auth, line 2"}
				}
				return explain.Login{}
			}
			if test.change != nil {
				test.change(&r)
			}
			for i, o := range r.Inputs.Outputs {
				if name, ok := o.Attrs["name"]; ok {
					r.Inputs.Outputs[i].Attrs["name"] = places.Replace(name)
				}
			}
			r.Inputs.Context.Source = places.Replace(r.Inputs.Context.Source)
			got := r.fails(t, places.Replace(test.words)).Failure
			if got == nil {
				t.Fatal("there is no explanation")
			}
			if want := places.Replace(test.what); got.What != want {
				t.Errorf("what  %s\nwant  %s", got.What, want)
			}
			if got.Place.Line != test.line {
				t.Errorf("line %d, want %d", got.Place.Line, test.line)
			}
			if want := places.Replace(test.next); !strings.Contains(got.Next, want) || want == "" && got.Next != "" {
				t.Errorf("next  %s\nwant  %s", got.Next, want)
			}
		})
	}
}

// TestPushUntrusted: a registry with an unknown certificate is found out before the build, unless
// the builder's own configuration is about that registry.
func TestPushUntrusted(t *testing.T) {
	t.Parallel()
	net := newInternet(t)
	for config, words := range map[string]string{
		"":                                       "\n         push: ",
		"[registry.\"selfsigned.test\"]\n":       "\n         failed to solve: failed to push selfsigned.test/app:v1: ",
		"[registry.\"another.test\"]\nca = []\n": "\n         push: ",
	} {
		t.Run(config, func(t *testing.T) {
			t.Parallel()
			out := testkit.Invocation{
				Dir: testkit.App(t), Branch: "main", Env: map[string]string{"HTTPS_PROXY": net.Proxy},
				Args: []string{"--cache", "none", "--push", "--tags", "selfsigned.test/app:v1", "--buildkitd-config-inline", config},
			}.Start(t)
			for _, line := range []string{": the certificate of selfsigned.test is not trusted\n         next: set ca-certificates", words} {
				if out.Code != 1 || !strings.Contains(out.Text, line) {
					t.Errorf("exit code %d, and the log lacks %q:\n%s", out.Code, line, out.Text)
				}
			}
		})
	}
}

// faultyApp is a context with a Dockerfile, to which the stage base is added where it is needed,
// and the Dockerfile's text.
func faultyApp(t *testing.T, dockerfile string) (string, []byte) {
	t.Helper()
	dir := app(t, "")
	if !strings.HasPrefix(dockerfile, "FROM ") && !strings.HasPrefix(dockerfile, "ARG ") && !strings.HasPrefix(dockerfile, "#") {
		dockerfile = "FROM scratch AS base\nADD rootfs.tar /\nFROM base\n" + dockerfile
	}
	testkit.Write(t, filepath.Join(dir, "Dockerfile"), dockerfile)
	testkit.Write(t, filepath.Join(dir, ".dockerignore"), "# what is made\n\n*.txt\n!kept.txt\n")
	testkit.Write(t, filepath.Join(dir, "made.txt"), "")
	testkit.Write(t, filepath.Join(dir, "garbage"), "\x00\x01garbage")
	if err := os.Chmod(filepath.Join(dir, "garbage"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, []byte(dockerfile)
}

// repository is the URL of a Git server with the repository app.git, which has a branch main
// without a Dockerfile.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	app := filepath.Join(dir, "app.git")
	for _, args := range [][]string{
		{"init", "-q", "-b", "main", app},
		{"-C", app, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "x"},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git: %v\n%s", err, out)
		}
	}
	return testkit.StartGit(t, dir)
}

// otherPlatform pushes an index of one image, for a platform that the tests do not run on.
func otherPlatform(t *testing.T, image string) {
	t.Helper()
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: empty.Image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "plan9", Architecture: "mips"}},
	})
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
}

// programs is a directory with a program that connects to an address.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	testkit.Write(t, filepath.Join(dir, "main.go"), `package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	if _, err := net.Dial("tcp", os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
`)
	compile := exec.Command("go", "build", "-o", filepath.Join(dir, "connect"), filepath.Join(dir, "main.go"))
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}
