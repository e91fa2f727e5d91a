package testkit

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/moby/moby/client"
)

// StartDockerd starts a container engine without images and containers, and returns its address for
// DOCKER_HOST. It is Debian's, with its images in a graph driver's store.
func StartDockerd(t testing.TB) string {
	t.Helper()
	return StartEngine(t, "dockerd", "{}")
}

// StartEngine is [StartDockerd] for a program, such as moby-dockerd, and a configuration, which replaces the
// machine's. Steps of its BuildKit have no network.
func StartEngine(t testing.TB, name, config string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/" + name)
	}
	Need(t, "dockerd", err)
	dir := Temp(t)
	Write(t, filepath.Join(dir, "daemon.json"), config)
	address := "unix://" + filepath.Join(dir, "docker.sock")
	cmd := exec.Command(program, "--host="+address, "--data-root="+filepath.Join(dir, "data"),
		"--exec-root="+filepath.Join(dir, "exec"), "--pidfile="+filepath.Join(dir, "pid"), "--config-file="+filepath.Join(dir, "daemon.json"),
		"--bridge=none", "--iptables=false", "--ip6tables=false")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	engine := Engine(t, address)
	start(t, inNamespace(cmd), func() bool {
		_, err := engine.Ping(t.Context(), client.PingOptions{})
		return err == nil
	})
	return address
}

// Engine is a client for the engine at an address.
func Engine(t testing.TB, address string) *client.Client {
	t.Helper()
	engine, err := client.New(client.WithHost(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return engine
}
