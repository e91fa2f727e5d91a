package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// example is an app in examples/. Its base image is replaced by one that is made from this
// machine's toolchain, since tests pull no images.
type example struct {
	name, part string                                          // its directory, and its toolchain's name in WARMLAYER_REQUIRE
	base       func(*testing.T) (file string, places []string) // Dockerfile of the replacement, and its build contexts
	args       []string                                        // build arguments with the base images: PROGRAM is the replacement, BUSYBOX an image with only busybox
	print      string                                          // arguments of a RUN instruction that print the greeting
}

var exampleApps = []example{
	{"go", "go", goBase, []string{"GO=PROGRAM", "BASE=BUSYBOX"}, `["/hello", "print"]`},
	{"node", "node", nodeBase, []string{"NODE=PROGRAM"}, `["node", "server.js", "print"]`},
	{"python", "python", pythonBase, []string{"PYTHON=PROGRAM"}, `["python3", "app.py", "print"]`},
}

const busyboxFile = "FROM scratch\nADD rootfs.tar /\nRUN mkdir -p /tmp && chmod 1777 /tmp\n"

// The images of examples/ build, are warm for a branch on an empty builder, and run.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, e := range exampleApps {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			registry := testkit.StartRegistry(t).Host
			file, places := e.base(t)
			program := standIn(t, registry+"/base/"+e.name, file, places...)
			busybox := standIn(t, registry+"/base/busybox", busyboxFile)
			args := []string{"--tags", registry + "/hello:latest", "--push", "--cache", "type=registry,ref=" + registry + "/hello"}
			for _, arg := range e.args {
				args = append(args, "--build-args", strings.NewReplacer("PROGRAM", program, "BUSYBOX", busybox).Replace(arg))
			}
			dir := filepath.Join("examples", e.name)
			testkit.Invocation{Dir: dir, Branch: "main", Args: args}.Build(t)
			warm := testkit.Invocation{Dir: dir, Branch: "fix/login", Args: args}.Build(t)
			if warm.Cached() != len(warm.Steps) || len(warm.Steps) < 4 {
				t.Errorf("on a branch %d of %d steps are cached", warm.Cached(), len(warm.Steps))
			}
			app := testkit.App(t)
			testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM "+registry+"/hello:latest\nRUN "+e.print+"\n")
			out := testkit.Invocation{Dir: app, Branch: "main", Args: []string{"--cache", "none", "--outputs", "type=cacheonly"}}.Start(t)
			if out.Code != 0 || !strings.Contains(out.Text, "hello from "+e.name) {
				t.Errorf("exit code %d:\n%s", out.Code, out.Text)
			}
		})
	}
}

// standIn builds a replacement of a base image and pushes it. Places are build contexts of its
// Dockerfile.
func standIn(t *testing.T, ref, file string, places ...string) string {
	t.Helper()
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), file)
	args := []string{"--cache", "none", "--outputs", "type=image,push=true,compression=uncompressed,name=" + ref}
	for _, place := range places {
		args = append(args, "--build-contexts", place)
	}
	testkit.Invocation{Dir: app, Branch: "main", Args: args}.Build(t)
	return ref
}

func goBase(t *testing.T) (string, []string) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return busyboxFile + "COPY --from=go go.env VERSION /usr/local/go/\n" +
		"COPY --from=go bin /usr/local/go/bin\nCOPY --from=go pkg /usr/local/go/pkg\n" +
		"COPY --from=go src /usr/local/go/src\nCOPY --from=go lib /usr/local/go/lib\n" +
		"ENV PATH=/usr/local/go/bin:/bin HOME=/root GOTOOLCHAIN=local GOFLAGS=-mod=mod\n", []string{"go=" + strings.TrimSpace(string(root))}
}

func nodeBase(t *testing.T) (string, []string) {
	t.Helper()
	node, err := exec.LookPath("node")
	testkit.Need(t, "node", err)
	npm, err := exec.LookPath("npm")
	testkit.Need(t, "node", err)
	if npm, err = filepath.EvalSymlinks(npm); err != nil {
		t.Fatal(err)
	}
	return busyboxFile + "COPY --from=program . /\nCOPY --from=npm . /npm\n" +
		"RUN ln -s " + node + " /bin/node && printf '#!/bin/sh\\nexec node /npm/bin/npm-cli.js \"$@\"\\n' > /bin/npm && chmod +x /bin/npm\n" +
		"ENV PATH=/bin HOME=/tmp\n", []string{"program=" + withLibraries(t, node), "npm=" + filepath.Dir(filepath.Dir(npm))}
}

func pythonBase(t *testing.T) (string, []string) {
	t.Helper()
	const python = "/usr/bin/python3" // Debian's, whose library is one directory
	found, err := exec.Command(python, "-c", "import sysconfig; print(sysconfig.get_paths()['stdlib'])").Output()
	testkit.Need(t, "python", err)
	library := strings.TrimSpace(string(found))
	return busyboxFile + "COPY --from=program . /\nCOPY --from=library . " + library + "\n" +
		"ENV PATH=/bin:/usr/bin HOME=/tmp\n", []string{"program=" + withLibraries(t, python), "library=" + library}
}

var libraryPath = regexp.MustCompile(`/\S+`)

// withLibraries is a directory with a program and the libraries that it loads, each at its original
// path.
func withLibraries(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	loaded, err := exec.Command("ldd", program).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // ldd fails for a program without libraries
		t.Fatal(err)
	}
	for _, path := range append(libraryPath.FindAllString(string(loaded), -1), program) {
		place := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(place, content, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
