package builder

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/warmlayer/warmlayer/internal/crash"
)

const (
	// stopGrace is how long a daemon may take to stop its containers. One that hangs during an
	// import never stops by itself.
	stopGrace = 2 * time.Second
	// killGrace is how long the kernel may take to end killed processes.
	killGrace = 2 * time.Second
)

// process is a running program, in a process group of its own, which a terminal's interrupt does
// not reach. The kernel kills it when this process ends.
type process struct {
	pid    int
	exited chan struct{} // closed when it and all processes that hold its output have ended
	err    error         // how it ended; read after exited
}

// startProcess starts cmd, of which it completes SysProcAttr.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.WaitDelay = killGrace / 2

	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer crash.Catch()
		// The kernel sends the signal when the thread that forked ends (PR_SET_PDEATHSIG in
		// prctl(2)): this thread must live as long as the program.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		// RootlessKit's child can outlive RootlessKit when that is killed while it starts.
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// stop asks the program to end, and kills it when it does not within the grace.
func (p *process) stop(grace time.Duration) error {
	// The signal goes to the program only: RootlessKit passes it on, and a daemon that receives
	// three of them ends without cleaning up.
	p.signal(p.pid, syscall.SIGTERM)
	if p.wait(grace) {
		return nil
	}
	return p.kill()
}

// kill ends the program at once, and all that runs in its namespaces.
func (p *process) kill() error {
	p.signal(-p.pid, syscall.SIGKILL)
	if !p.wait(killGrace) {
		return errors.New("kill buildkitd: the process does not end")
	}
	return nil
}

// childless tells whether the program certainly runs no other, such as a container (proc(5),
// /proc/PID/task/TID/children).
func (p *process) childless() bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.pid))
	if err != nil || len(files) == 0 {
		return false
	}
	for _, file := range files {
		// A thread that ends leaves its children to another one.
		if children, err := os.ReadFile(file); err != nil || len(children) > 0 {
			return false
		}
	}
	return true
}

// signal sends a signal, unless the process has ended and the pid may be another one's.
func (p *process) signal(pid int, s syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(pid, s)
	}
}

// wait reports whether the program ends within d.
func (p *process) wait(d time.Duration) bool {
	select {
	case <-p.exited:
		return true
	case <-time.After(d):
		return false
	}
}

// tail keeps the last tailSize bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - tailSize; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

// lastLines are the last n lines of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
