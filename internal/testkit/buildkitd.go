package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/buildkit/client"
)

// StartBuildkitd starts an empty daemon with more flags, and returns its address. For warmlayer it
// is a remote builder.
func StartBuildkitd(t testing.TB, flags ...string) string {
	t.Helper()
	return StartBuildkitdIn(t, nil, flags...)
}

// StartBuildkitdIn is [StartBuildkitd] with variables of the daemon's own, "NAME=value".
func StartBuildkitdIn(t testing.TB, env []string, flags ...string) string {
	t.Helper()
	dir := Temp(t)
	address := "unix://" + filepath.Join(dir, "buildkitd.sock")
	startBuildkitd(t, dir, address, env, append(flags, "--addr="+address)...)
	return address
}

// StartBuildkitdTLS starts a daemon at tcp:// and returns its address. The daemon has a
// certificate, and requires one of the authority's from its clients. All arguments are in PEM.
func StartBuildkitdTLS(t testing.TB, authority []byte, cert, key []byte) string {
	t.Helper()
	dir := Temp(t)
	address, private := "tcp://"+freeAddress(t), "unix://"+filepath.Join(dir, "buildkitd.sock")
	for name, content := range map[string][]byte{"ca.pem": authority, "cert.pem": cert, "key.pem": key} {
		Write(t, filepath.Join(dir, name), string(content))
	}
	startBuildkitd(t, dir, private, nil, "--addr="+private, "--addr="+address, "--tlscacert="+filepath.Join(dir, "ca.pem"),
		"--tlscert="+filepath.Join(dir, "cert.pem"), "--tlskey="+filepath.Join(dir, "key.pem"))
	Until(t, address, func() bool { return listens(strings.TrimPrefix(address, "tcp://")) })
	return address
}

// startBuildkitd returns when the daemon answers at an address.
func startBuildkitd(t testing.TB, dir, address string, env []string, args ...string) {
	t.Helper()
	program, err := exec.LookPath("buildkitd")
	Need(t, "buildkitd", err)
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--config=") }) {
		args = append(args, "--config=/dev/null") // and not the machine's
	}
	cmd := exec.Command(program, append(args, "--root="+dir,
		"--otel-socket-path="+filepath.Join(dir, "otel.sock"), "--oci-worker-gc=false", "--containerd-worker=false")...)
	// It has its own mount namespace, so no mount remains.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	cmd = inNamespace(cmd)
	cmd.Env = append(os.Environ(), env...)
	start(t, cmd, func() bool { return hasWorkers(t, address) })
}

// hasWorkers tells whether a daemon answers. Each attempt has its own client: after a connection
// that fails, a client waits for a second.
func hasWorkers(t testing.TB, address string) bool {
	c, err := client.New(t.Context(), address)
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = c.ListWorkers(t.Context())
	return err == nil
}

// inNamespace gives the daemon the /proc of its own namespace, which runc needs.
func inNamespace(cmd *exec.Cmd) *exec.Cmd {
	script := `mount -t proc proc /proc && exec "$0" "$@"`
	wrapped := exec.Command("sh", append([]string{"-c", script}, cmd.Args...)...)
	wrapped.SysProcAttr = cmd.SysProcAttr
	wrapped.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	return wrapped
}

// Buildctl builds an app with BuildKit's own client on a daemon, and returns its output.
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

// Buildx runs docker buildx with variables, and returns its output. BUILDX_CONFIG is the directory in
// which it stores its builders.
func Buildx(t testing.TB, env map[string]string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("buildx")
	Need(t, "buildx", err)
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("buildx %v: %v\n%s", args, err, out)
	}
	return string(out)
}
