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

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/stepnet"
)

const (
	socketFile     = "buildkitd.sock"
	configFile     = "buildkitd.toml"
	rootlesskitDir = "rootlesskit"

	authoritiesDir  = "authorities"
	authoritiesFile = "ca.pem"

	// pollInterval is the time between two attempts to connect to a starting daemon's socket.
	// Starting takes about 200 ms.
	pollInterval = 10 * time.Millisecond
	// logLines is how many lines of a daemon's log an error shows.
	logLines = 12
)

// rootScript runs as the first process of new PID and mount namespaces, and becomes the daemon.
// When that ends the kernel ends all its containers and mounts. /proc must show the new PID
// namespace. runc of root keeps the state of containers in /run/runc, for which BuildKit has no
// setting.
const rootScript = `mount -t proc proc /proc &&
{ [ -d /run/runc ] || mkdir -p /run/runc; } && mount -t tmpfs -o mode=700 runc /run/runc || exit
`

// execScript is the end of a script: the shell becomes the daemon.
const execScript = `exec "$@"`

// processDaemon is a buildkitd in a process: its private directory, how to start it, and the
// process while it runs.
type processDaemon struct {
	dir     *directory
	options Options

	rootless bool
	found    map[string]string // the programs that it needs
	shell    string            // "": none is on PATH
	command  []string
	environ  []string
	attr     syscall.SysProcAttr // its namespaces
	log      tail
	process  *process // nil before the first start

	network *stepnet.Network // nil: steps have no network of their own
	steps   Network

	emulation string // a script that registers emulators; "": none

	kept   *kept  // what it keeps for the next run; nil: nothing
	state  string // what became of the state that the options name, for people; "": they name none
	forget bool   // the state is removed at the end
	hurry  bool   // the end must not take long

	// removeAll is os.RemoveAll, or the same for files of subordinate ids.
	removeAll func(path string) error
}

// newProcessDaemon prepares a daemon: it finds the programs, removes what killed processes have
// left, and makes the private directory.
func newProcessDaemon(o Options, rootless bool) (*processDaemon, error) {
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
	d := &processDaemon{options: o, rootless: rootless, found: found, shell: lookPath(path, "sh"), removeAll: removeTree}
	if rootless {
		d.removeAll = func(path string) error { return removeMapped(found["rootlesskit"], o.Environ, path) }
	}
	sweep(parent, d.removeAll)
	if d.dir, err = newDirectory(parent); err != nil {
		return nil, err
	}
	d.environ = append(daemonEnviron(o.Environ, d.dir.path), o.Managed.Env...)
	if o.Managed.Authorities != "" {
		d.environ = trusting(d.environ, d.dir.join(authoritiesDir))
	}
	if err := errors.Join(d.giveNetwork(), d.writeFiles()); err != nil {
		return nil, errors.Join(err, d.remove())
	}
	if len(emulators) > 0 {
		d.emulation = d.registration(emulators)
	}
	d.setCommand()
	return d, nil
}

// setCommand sets how to start the daemon.
func (d *processDaemon) setCommand() {
	if d.rootless {
		d.commandRootless(d.found)
	} else {
		d.commandRoot(d.found)
	}
}

// writeConfig writes the daemon's configuration.
func (d *processDaemon) writeConfig() error {
	text, err := config(d.options.Managed.Config, d.network)
	if err == nil {
		err = os.WriteFile(d.dir.join(configFile), text, 0o600)
	}
	return err
}

// writeFiles writes the files that the daemon reads.
func (d *processDaemon) writeFiles() error {
	err := d.writeConfig()
	if err == nil && d.options.Managed.Authorities != "" {
		if err = os.Mkdir(d.dir.join(authoritiesDir), 0o700); err == nil {
			err = os.WriteFile(filepath.Join(d.dir.join(authoritiesDir), authoritiesFile), []byte(d.options.Managed.Authorities), 0o600)
		}
	}
	return err
}

// locate finds all programs that are needed, or reports all that are missing.
func locate(path string, names []string) (map[string]string, error) {
	found := make(map[string]string)
	var missing []string
	for _, name := range names {
		candidates := []string{name}
		if name == "runc" {
			// buildkitd looks for it in this order.
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

// arguments returns buildkitd's arguments; join returns the path of one of its files, and root is where it stores what it builds. They name
// everything whose default is outside the private directory. The configuration, which may be
// empty, replaces the machine's own, and flags override it.
func arguments(o Options, join func(name string) string, root, address string) []string {
	arguments := []string{
		"--config=" + join(configFile),
		"--root=" + root,
		"--addr=" + address,
		"--otel-socket-path=" + join("otel.sock"),
		"--containerd-worker=false", // its state would stay in the machine's containerd
		"--oci-worker=true",
		"--oci-worker-gc=false", // the state is removed with the builder, or collected at its end
	}
	for _, entitlement := range o.Entitlements {
		// buildkitd allows devices in general; the build names them.
		name, _, _ := strings.Cut(entitlement, "=")
		arguments = append(arguments, "--allow-insecure-entitlement="+name)
	}
	return append(arguments, o.Managed.Flags...)
}

func (d *processDaemon) address() string { return "unix://" + d.dir.join(socketFile) }

// commandRoot sets how to start the daemon as root.
func (d *processDaemon) commandRoot(found map[string]string) {
	script := rootScript + d.emulation + execScript
	if d.network != nil {
		script = rootScript + cniScript + d.emulation + execScript
	}
	d.command = append([]string{d.shell, "-c", script, "sh", found["buildkitd"]}, d.arguments()...)
	d.attr = syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID,
		// With Unshareflags os/exec makes all mounts private, so that those of the script stay
		// in the namespace. It does not with Cloneflags.
		Unshareflags: syscall.CLONE_NEWNS,
	}
}

// commandRootless sets how to start the daemon as another user: as root of a user namespace
// that RootlessKit makes. It keeps the host's network, and with it this process's loopback
// interface.
func (d *processDaemon) commandRootless(found map[string]string) {
	d.command = []string{found["rootlesskit"], "--net=host", "--state-dir=" + d.dir.join(rootlesskitDir)}
	script := d.emulation
	if d.network != nil {
		// The user cannot make the directory of cniScript, only replace its parent.
		d.command = append(d.command, "--copy-up="+cniParent)
		script = cniScriptRootless + script
	}
	arguments := d.arguments()
	if procMasked() {
		// The cost: a RUN step can send signals to the daemon's processes.
		arguments = append(arguments, "--oci-worker-no-process-sandbox")
	} else {
		d.command = append(d.command, "--pidns")
	}
	if script != "" {
		d.command = append(d.command, d.shell, "-c", script+execScript, "sh")
	}
	d.command = append(append(d.command, found["buildkitd"]), arguments...)
}

// open starts the daemon. When it ends at once with a network for steps, it starts without one.
func (d *processDaemon) open(ctx context.Context) (*client.Client, []ocispecs.Platform, error) {
	c, platforms, err := d.start(ctx)
	if err == nil || d.network == nil || ctx.Err() != nil || d.process == nil {
		return c, platforms, err
	}
	if err := d.withoutNetwork(); err != nil {
		return nil, nil, err
	}
	return d.start(ctx)
}

// start starts the daemon and waits until it answers. After an error no process is left, but
// the directory is.
func (d *processDaemon) start(ctx context.Context) (*client.Client, []ocispecs.Platform, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, &Error{What: "start buildkitd", Err: context.Cause(ctx)}
	}
	// RootlessKit leaves its lock and its socket when it is killed.
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
	tried := d.tryNetwork()
	c, platforms, err := d.await(ctx)
	if err == nil {
		err = tried(c)
	}
	if err != nil {
		return nil, nil, errors.Join(err, d.kill())
	}
	return c, platforms, nil
}

// await returns when the daemon answers, has exited, or takes too long.
func (d *processDaemon) await(ctx context.Context) (*client.Client, []ocispecs.Platform, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	dialing, stop := context.WithCancel(ctx)
	defer stop()
	exited := d.process.exited // d.process itself changes with a Restart
	go func() {
		defer crash.Catch()
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
	// The connection breaks shortly before the process has ended.
	if ctx.Err() == nil && d.process.wait(killGrace) {
		what, err = "buildkitd exited while it started", d.process.err
	}
	log := lastLines(d.log.String(), logLines)
	return nil, nil, &Error{What: what, Hint: hintFor(log), Err: err, Log: log}
}

// awaitSocket returns when a process listens on the socket. gRPC itself would wait a second
// before its second attempt.
func awaitSocket(ctx context.Context, socket string) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
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

func (d *processDaemon) output() string { return d.log.String() }

// close kills a daemon that has nothing to end: all that it stores is removed with it, and plugins and
// exporters that it would call are this package's own. Its shutdown would take 13 ms or more.
func (d *processDaemon) close() error {
	if d.kept != nil {
		return d.closeKept()
	}
	stop := func() error { return d.process.stop(stopGrace) }
	if m := d.options.Managed; !d.rootless && len(m.Flags)+len(m.Env)+len(m.Config) == 0 && d.process.childless() {
		stop = d.process.kill
	}
	return errors.Join(stop(), d.remove())
}

func (d *processDaemon) kill() error {
	err := d.process.kill()
	if d.network != nil {
		d.network.Detach()
	}
	return err
}

// listen opens a port in this process: the daemon has the same loopback interface.
func (d *processDaemon) listen(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

// remove removes the private directory. It tries again for a while: after RootlessKit was
// killed the last containers may still be ending.
func (d *processDaemon) remove() error {
	if d.network != nil {
		_ = d.network.Close() // what it could not close ends with this process
	}
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

// procMasked tells whether a container engine hides parts of /proc. The kernel then refuses to
// mount /proc in a user namespace (mount_too_revealing in fs/namespace.c), which containers with
// a PID namespace of their own need.
func procMasked() bool {
	// If the table cannot be read, the daemon's own error says more.
	table, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.HasPrefix(fields[4], "/proc/") {
			continue
		}
		switch fields[4] {
		case "/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd":
			// These are mounted on directories that are always empty, and hide nothing.
		default:
			return true
		}
	}
	return false
}
