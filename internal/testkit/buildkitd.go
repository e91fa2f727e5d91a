package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/buildkit/client"
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
	start(t, cmd, func() bool { return hasWorkers(t, address) })
}

// hasWorkers tells whether a daemon answers already. Each try has a client of its own, since a
// client waits for a second after a connection that fails.
func hasWorkers(t testing.TB, address string) bool {
	c, err := client.New(t.Context(), address)
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = c.ListWorkers(t.Context())
	return err == nil
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
