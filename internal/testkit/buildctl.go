package testkit

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

// StartBuildkitd starts a daemon that knows nothing yet, and returns its address.
// It is one that warmlayer did not start, as a remote one is. The flags are further ones.
func StartBuildkitd(t testing.TB, flags ...string) string {
	t.Helper()
	dir := Temp(t)
	address := "unix://" + filepath.Join(dir, "buildkitd.sock")
	startBuildkitd(t, dir, address, append(flags, "--addr="+address)...)
	return address
}

// StartBuildkitdTLS starts a daemon at tcp:// that shows a certificate, wants one of the
// authority's from its clients, and returns its address. All are in PEM.
func StartBuildkitdTLS(t testing.TB, authority []byte, cert, key []byte) string {
	t.Helper()
	dir := Temp(t)
	address, private := "tcp://"+freeAddress(t), "unix://"+filepath.Join(dir, "buildkitd.sock")
	for name, content := range map[string][]byte{"ca.pem": authority, "cert.pem": cert, "key.pem": key} {
		Write(t, filepath.Join(dir, name), string(content))
	}
	startBuildkitd(t, dir, private, "--addr="+private, "--addr="+address, "--tlscacert="+filepath.Join(dir, "ca.pem"),
		"--tlscert="+filepath.Join(dir, "cert.pem"), "--tlskey="+filepath.Join(dir, "key.pem"))
	Until(t, address, func() bool { return listens(strings.TrimPrefix(address, "tcp://")) })
	return address
}

// startBuildkitd returns once the daemon answers at an address.
func startBuildkitd(t testing.TB, dir, address string, args ...string) {
	t.Helper()
	program, err := exec.LookPath("buildkitd")
	Need(t, "buildkitd", err)
	cmd := exec.Command(program, append(args, "--config=/dev/null", "--root="+dir,
		"--otel-socket-path="+filepath.Join(dir, "otel.sock"), "--oci-worker-gc=false", "--containerd-worker=false")...)
	// In a mount namespace of its own, so that no mount is left behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	cmd = inNamespace(cmd)
	start(t, cmd, func() bool { return exec.Command("buildctl", "--addr", address, "debug", "workers").Run() == nil })
}

// inNamespace gives the daemon a /proc of its own namespace, which runc needs.
func inNamespace(cmd *exec.Cmd) *exec.Cmd {
	script := `mount -t proc proc /proc && exec "$0" "$@"`
	wrapped := exec.Command("sh", append([]string{"-c", script}, cmd.Args...)...)
	wrapped.SysProcAttr = cmd.SysProcAttr
	wrapped.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	return wrapped
}

// Buildctl builds an app with BuildKit's own client on a daemon, and returns what it said.
func Buildctl(t testing.TB, address, app string, args ...string) string {
	t.Helper()
	args = append([]string{
		"--addr", address, "build", "--progress", "plain", "--frontend", "dockerfile.v0",
		"--local", "context=" + app, "--local", "dockerfile=" + app,
	}, args...)
	out, err := exec.Command("buildctl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("buildctl: %v\n%s", err, out)
	}
	return string(out)
}

// interoperates: what one writes natively the other reads, every step cached.
func (s suite) interoperates(t *testing.T) {
	app := App(t)
	plan := scope.Plan{Write: "b-main", Read: []scope.Source{{Name: "b-main"}}}
	t.Run("buildctl reads ours", func(t *testing.T) {
		p := s.h.New(t)
		s.run(t, p, app, "main").Build(t)
		said := Buildctl(t, StartBuildkitd(t), app, entries("--import-cache", backend(t, p).Imports(plan))...)
		if ran := executed(said); len(ran) > 0 {
			t.Errorf("buildctl ran %v:\n%s", ran, said)
		}
	})
	t.Run("we read buildctl's", func(t *testing.T) {
		p := s.h.New(t)
		args := entries("--export-cache", backend(t, p).Exports(plan))
		if s.h.Inline {
			args = append(args, "--output", "type=image,push=true,name="+p.Image+":cache-b-main")
		}
		if said := Buildctl(t, StartBuildkitd(t), app, args...); len(executed(said)) == 0 {
			t.Errorf("a cold build ran no step:\n%s", said)
		}
		allCached(t, s.run(t, p, app, "main").Build(t))
	})
}

var stepLine = regexp.MustCompile(`(?m)^#(\d+) (\[[a-z].*\d+/\d+\] .*)$`)

// executed are the steps that BuildKit's plain progress does not call cached.
func executed(said string) []string {
	var ran []string
	for _, m := range stepLine.FindAllStringSubmatch(said, -1) {
		if !strings.Contains(said, "\n#"+m[1]+" CACHED") && !slices.Contains(ran, m[2]) {
			ran = append(ran, m[2])
		}
	}
	return ran
}

// backend is the place as the program sees it.
func backend(t testing.TB, p Place) backends.Backend {
	t.Helper()
	pairs, err := syntax.ParseCSV(p.Line)
	if err != nil {
		t.Fatal(err)
	}
	line := inputs.Cache{Attrs: map[string]string{}}
	for _, pair := range pairs {
		if pair.Key == "type" {
			line.Type = pair.Value
		} else {
			line.Attrs[pair.Key] = pair.Value
		}
	}
	caches, problems := backends.New([]inputs.Cache{line}, backends.Options{
		Images: []string{p.Image + ":v1"},
		Getenv: func(name string) string { return p.env("")[name] },
	})
	if len(problems) > 0 {
		t.Fatal(syntax.Problems(problems))
	}
	return caches[0]
}

// Open opens the scopes of a place, for a test to look into.
func Open(t testing.TB, p Place) backends.Scopes {
	t.Helper()
	return backend(t, p).(backends.Keeper).Scopes()
}

// content is a blob, whole.
func content(t testing.TB, store backends.Scopes, d digest.Digest) string {
	t.Helper()
	r, err := store.Open(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Buildx runs docker buildx with variables: BUILDX_CONFIG is where it keeps its builders.
func Buildx(t testing.TB, env map[string]string, args ...string) {
	t.Helper()
	program, err := exec.LookPath("buildx")
	Need(t, "buildx", err)
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("buildx %v: %v\n%s", args, err, out)
	}
}
