package builder

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// thisProcess names this process for others in its PID namespace: the machine's boot, the
// namespace, the process id, and the time of its start, which tells processes with one id apart
// (proc(5)). It is "" where /proc does not tell.
func thisProcess() string {
	namespace := processNamespace()
	started, err := startTime(os.Getpid())
	if namespace == "" || err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %s", namespace, os.Getpid(), started)
}

// hasEnded tells whether the named process has certainly ended. Of a process in another namespace, as
// in another container, nothing is certain.
func hasEnded(name string) bool {
	fields := strings.Fields(name)
	if len(fields) != 4 || strings.Join(fields[:2], " ") != processNamespace() {
		return false
	}
	pid, err := strconv.Atoi(fields[2])
	if err != nil || pid < 1 {
		return false
	}
	// Unlike /proc, which may hide processes of other users, this tells for sure.
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	started, err := startTime(pid)
	return err == nil && started != fields[3]
}

func processNamespace() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(boot)) + " " + namespace
}

// startTime is when a process started, in clock ticks since the boot: field 22 of its stat, of which
// the second one is its name in parentheses.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const field = 22 - 3 // after the name comes field 3
	if len(fields) <= field {
		return "", errors.New("stat has too few fields")
	}
	return string(fields[field]), nil
}
