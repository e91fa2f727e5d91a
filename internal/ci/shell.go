package ci

import (
	"strings"

	"github.com/warmlayer/warmlayer/scope"
)

// judgeShell judges a build outside the known CIs, which a person at a terminal outside a container
// starts, or a program that says nothing about it: a cron job, a CI without variables, or a
// container in any CI.
func judgeShell(f *scope.Facts, h host) {
	if h.terminal && !h.contained() {
		f.Trusted = true
		return
	}
	f.Untrusted = scope.NoPerson
}

// contained reports whether the process runs in a container: by the files and variables that
// Docker, Podman, systemd-nspawn and Kubernetes give to each, by the control group of the first
// process, or by the root's file system, which outside containers is not one of layers.
func (h host) contained() bool {
	if h.knows("container", "KUBERNETES_SERVICE_HOST") {
		return true
	}
	for _, file := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := h.readFile(file); err == nil {
			return true
		}
	}
	groups, _ := h.readFile("/proc/1/cgroup")
	for _, engine := range []string{"docker", "containerd", "libpod", "kubepods", "lxc", "garden", "buildkit"} {
		if strings.Contains(string(groups), engine) {
			return true
		}
	}
	mounts, _ := h.readFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if mountsRoot(line) {
			return true
		}
	}
	return false
}

// mountsRoot reports whether a line of /proc/self/mountinfo mounts a file system of layers at the
// root (proc_pid_mountinfo(5)):
//
//	1103 980 0:61 / / rw,relatime - overlay overlay rw,lowerdir=…
func mountsRoot(line string) bool {
	before, after, _ := strings.Cut(line, " - ")
	mount, what := strings.Fields(before), strings.Fields(after)
	if len(mount) < 5 || len(what) == 0 || mount[4] != "/" {
		return false
	}
	return what[0] == "overlay" || what[0] == "aufs" || what[0] == "fuse.fuse-overlayfs"
}
