package stepnet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// Try makes the interfaces of a step in a namespace that ends at once, and runs a plugin that does nothing. Its error says why
// steps can have no network of their own: a permission or a kernel's module is missing, or no program may run in Dir. It
// is for a root's builder, which has the permissions of this process.
func (n *Network) Try() error {
	made := make(chan error, 1)
	go func() {
		defer crash.Catch()
		made <- tryNamespace()
	}()
	if out, err := exec.Command(filepath.Join(n.Plugins(), loopbackName)).CombinedOutput(); err != nil {
		return fmt.Errorf("run a plugin: %w%s", err, out)
	}
	return <-made
}

// tryNamespace makes the interfaces in a thread that changes its namespaces, and ends with the goroutine. The process's first
// thread cannot end: it waits for another one.
func tryNamespace() error {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		defer runtime.UnlockOSThread()
		made := make(chan error, 1)
		go func() {
			defer crash.Catch()
			made <- tryNamespace()
		}()
		return <-made
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a namespace: %w", err)
	}
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the namespace: %w", err)
	}
	defer unix.Close(ns)
	socket, err := add(ns, "eth0", hasIPv6())
	if err != nil {
		return err
	}
	return unix.Close(socket)
}
