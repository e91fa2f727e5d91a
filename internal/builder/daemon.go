package builder

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/buildkit/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	socketFile     = "buildkitd.sock"
	configFile     = "buildkitd.toml"
	rootlesskitDir = "rootlesskit"

	// pollInterval is how often a starting daemon's socket is tried. Starting takes
	// some 200 ms.
	pollInterval = 10 * time.Millisecond
	// logLines is how much of a dead daemon's log an error shows.
	logLines = 12
)

// rootScript runs as the first process of new PID and mount namespaces, and becomes
// the daemon: when that ends, the kernel ends all containers and mounts with it.
// /proc has to show the new PID namespace. /run/runc is where runc of root keeps the
// state of containers, for which BuildKit has no setting.
const rootScript = `mount -t proc proc /proc &&
mkdir -p /run/runc && mount -t tmpfs -o mode=700 runc /run/runc || exit
`

// execScript ends a script: its shell becomes the daemon.
const execScript = `exec "$@"`

// daemon is a buildkitd of our own: its private directory, how to start it, and the
// process while there is one.
type daemon struct {
	dir     *directory
	options Options
	command []string
	environ []string
	attr    syscall.SysProcAttr // its namespaces
	log     tail
	process *process // nil before the first start

	emulation string // a script that registers emulators; "": none

	// removeAll is os.RemoveAll, or does as much for files of subordinate ids.
	removeAll func(path string) error
}

// newDaemon prepares a daemon: it finds the programs, removes what killed processes
// have left, and makes the private directory.
func newDaemon(o Options, rootless bool) (*daemon, error) {
	path := searchPath(o.Environ)
	emulators := findEmulators(path, o.Platforms)
	needs := []string{"buildkitd", "runc", "sh", "mount"}
	if rootless {
		needs = []string{"buildkitd", "runc", "rootlesskit", "newuidmap", "newgidmap"}
		if len(emulators) > 0 {
			needs = append(needs, "sh", "mount")
		}
	}
	found, err := locate(path, needs)
	if err != nil {
		return nil, err
	}
	parent, err := tempDir(o.Environ)
	if err != nil {
		return nil, err
	}
	d := &daemon{options: o, removeAll: os.RemoveAll}
	if rootless {
		d.removeAll = func(path string) error { return removeMapped(found["rootlesskit"], o.Environ, path) }
	}
	sweep(parent, d.removeAll)
	if d.dir, err = newDirectory(parent); err != nil {
		return nil, err
	}
	d.environ = append(daemonEnviron(o.Environ, d.dir.path), o.Managed.Env...)
	if err := os.WriteFile(d.dir.join(configFile), []byte(o.Managed.Config), 0o600); err != nil {
		return nil, errors.Join(err, d.remove())
	}
	if len(emulators) > 0 {
		d.emulation = d.registration(emulators)
	}
	if rootless {
		d.commandRootless(found)
	} else {
		d.commandRoot(found)
	}
	return d, nil
}

// locate finds all the programs that are needed, or reports all that are missing.
func locate(path string, names []string) (map[string]string, error) {
	found := make(map[string]string)
	var missing []string
	for _, name := range names {
		candidates := []string{name}
		if name == "runc" {
			// The order in which the daemon looks for it.
			candidates = []string{"buildkit-runc", "runc"}
		}
		if found[name] = lookPath(path, candidates...); found[name] == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, notFound(missing)
	}
	return found, nil
}

// tempDir returns the absolute parent of private directories.
func tempDir(environ []string) (string, error) {
	return filepath.Abs(cmp.Or(variable(environ, "TMPDIR"), "/tmp"))
}

func (d *daemon) arguments() []string { return arguments(d.options, d.dir.join, d.address()) }

// arguments returns buildkitd's arguments, for a daemon whose files are where join says.
// All that has a default outside of these is named; a configuration, if only an empty
// one, replaces the machine's own, and flags win over it.
func arguments(o Options, join func(name string) string, address string) []string {
	arguments := []string{
		"--config=" + join(configFile),
		"--root=" + join("state"),
		"--addr=" + address,
		"--otel-socket-path=" + join("otel.sock"),
		"--containerd-worker=false", // its state would stay in the machine's containerd
		"--oci-worker=true",
		"--oci-worker-gc=false", // the state does not live long enough
	}
	for _, entitlement := range o.Entitlements {
		// The daemon allows devices as such; the build names them.
		name, _, _ := strings.Cut(entitlement, "=")
		arguments = append(arguments, "--allow-insecure-entitlement="+name)
	}
	return append(arguments, o.Managed.Flags...)
}

func (d *daemon) address() string { return "unix://" + d.dir.join(socketFile) }

// commandRoot sets how to start the daemon as root.
func (d *daemon) commandRoot(found map[string]string) {
	script := rootScript + d.emulation + execScript
	d.command = append([]string{found["sh"], "-c", script, "sh", found["buildkitd"]}, d.arguments()...)
	d.attr = syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID,
		// Unshared and not cloned: only then os/exec makes all mounts private, and the
		// script's do not show outside.
		Unshareflags: syscall.CLONE_NEWNS,
	}
}

// commandRootless sets how to start the daemon as another user: as root of a user
// namespace that RootlessKit makes. It keeps the host's network, and with it our
// loopback interface.
func (d *daemon) commandRootless(found map[string]string) {
	d.command = []string{found["rootlesskit"], "--net=host", "--state-dir=" + d.dir.join(rootlesskitDir)}
	arguments := d.arguments()
	if procMasked() {
		// A RUN step can then signal the daemon's processes.
		arguments = append(arguments, "--oci-worker-no-process-sandbox")
	} else {
		d.command = append(d.command, "--pidns")
	}
	if d.emulation != "" {
		d.command = append(d.command, found["sh"], "-c", d.emulation+execScript, "sh")
	}
	d.command = append(append(d.command, found["buildkitd"]), arguments...)
}

// start starts the daemon and waits until it answers. When it fails, no process is
// left, but the directory is.
func (d *daemon) start(ctx context.Context) (*client.Client, []ocispecs.Platform, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, &Error{What: "start buildkitd", Err: context.Cause(ctx)}
	}
	// One that was killed leaves its lock and its socket.
	if err := os.RemoveAll(d.dir.join(rootlesskitDir)); err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(d.command[0], d.command[1:]...)
	cmd.Dir = "/"
	cmd.Env = d.environ
	cmd.Stdout, cmd.Stderr = &d.log, &d.log
	attr := d.attr
	cmd.SysProcAttr = &attr
	p, err := startProcess(cmd)
	if err != nil {
		return nil, nil, &Error{What: "start buildkitd", Hint: hintFor(err.Error()), Err: err}
	}
	d.process = p
	c, platforms, err := d.await(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, d.kill())
	}
	return c, platforms, nil
}

// await returns once the daemon answers, has died, or takes too long.
func (d *daemon) await(ctx context.Context) (*client.Client, []ocispecs.Platform, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	dialing, stop := context.WithCancel(ctx)
	defer stop()
	exited := d.process.exited // not d.process: a Restart may put another in its place
	go func() {
		select {
		case <-exited:
			stop()
		case <-dialing.Done():
		}
	}()

	var c *client.Client
	var platforms []ocispecs.Platform
	err := awaitSocket(dialing, d.dir.join(socketFile))
	if err == nil {
		c, platforms, err = dial(dialing, d.address())
	}
	if err == nil {
		return c, platforms, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, nil, &Error{What: "start buildkitd", Err: context.Cause(ctx)}
	}
	what := "buildkitd does not answer"
	// A connection breaks a little before the process has ended.
	if ctx.Err() == nil && d.process.wait(killGrace) {
		what, err = "buildkitd died at its start", d.process.err
	}
	log := lastLines(d.log.String(), logLines)
	return nil, nil, &Error{What: what, Hint: hintFor(log), Err: err, Log: log}
}

// awaitSocket returns once something listens on the socket. gRPC by itself would try
// again only after a second.
func awaitSocket(ctx context.Context, socket string) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (d *daemon) kill() error   { return d.process.kill() }
func (d *daemon) words() string { return d.log.String() }
func (d *daemon) close() error  { return errors.Join(d.process.stop(), d.remove()) }

// listen: the daemon shares our loopback interface.
func (d *daemon) listen(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

// remove removes the private directory, with patience: where RootlessKit stands
// between us and a daemon that was killed, the last containers may still be ending.
func (d *daemon) remove() error {
	if d.emulation != "" {
		unregister(d.dir)
	}
	deadline := time.Now().Add(killGrace)
	for {
		err := d.dir.remove(d.removeAll)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pollInterval)
	}
}

// procMasked tells that a container engine hides parts of /proc. The kernel then
// lets nobody in a user namespace mount a /proc of their own (mount_too_revealing in
// fs/namespace.c), which containers with their own PID namespace need.
func procMasked() bool {
	// An unreadable table cannot be judged: the daemon's own error says more.
	table, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.HasPrefix(fields[4], "/proc/") {
			continue
		}
		switch fields[4] {
		case "/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd":
			// These cover directories that are always empty, and hide nothing.
		default:
			return true
		}
	}
	return false
}
