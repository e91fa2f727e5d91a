package builder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	engine "github.com/moby/moby/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/waiting"
)

// Job is one run of a CI's job, whose steps share a managed builder in a container: it stays
// until [RemoveJob], and each step that asks for one with the same options uses it. The zero
// value: the container serves this process only, and ends with it.
type Job struct {
	ID     string // of the run; "": none
	Runner string // the CI's runner, which runs jobs one after another: what its earlier jobs have left is removed; "": unknown
}

const (
	// stateDir is the daemon's state, on a volume: an overlay cannot be mounted on an overlay.
	stateDir = "/var/lib/warmlayer"
	// runDir is in memory: a socket is gone when the container is started again.
	runDir = "/run/warmlayer"
	// configDir is in the image's file system, into which files can be copied before the start.
	configDir = "/etc/warmlayer"

	// engineTimeout bounds each request to an engine. Pulling an image has no bound.
	engineTimeout = time.Minute
	// interruptGrace bounds what ends a container after the build was interrupted: the engine may hang.
	interruptGrace = 3 * time.Second
)

// containerDaemon is a buildkitd in a container, which an engine runs next to the container
// of this process, if any. It has no port: everything passes through the standard streams of
// programs that are run in it.
type containerDaemon struct {
	engine  *engine.Client
	options Options
	image   string
	network string
	id      string
	created bool            // by this process, and no other one uses it yet
	build   context.Context // ends when the build is interrupted

	mu         sync.Mutex
	forwards   []*forwarded
	lastOutput string // of a container that is gone
}

// contain returns a managed builder in a container, which it creates unless the job has one.
func contain(ctx context.Context, o Options) (*Builder, error) {
	d, err := newContainerDaemon(ctx, o)
	if err != nil {
		return nil, err
	}
	c, platforms, err := d.start(ctx)
	if err != nil {
		if d.created {
			err = errors.Join(err, d.remove())
		}
		return nil, errors.Join(err, d.engine.Close())
	}
	b := &Builder{Client: c, Managed: true, Address: "container", Platforms: platforms, Network: d.steps(), daemon: d}
	if o.Managed.State.Dir != "" {
		b.State = nothingKept + "the builder runs in a container"
	}
	return b, nil
}

// steps is the network of RUN steps: they share the container's.
func (d *containerDaemon) steps() Network {
	if why := configuredNetwork(d.options.Managed); why != "" {
		return Network{NetworkConfigured, why}
	}
	if d.network == "host" {
		return Network{NetworkHost, "the builder's container is on the machine's network"}
	}
	return Network{NetworkContainer, "steps share the network of the builder's container"}
}

// newContainerDaemon finds the engine and the image, removes what earlier processes have left,
// and creates the container unless the job has one.
func newContainerDaemon(ctx context.Context, o Options) (_ *containerDaemon, err error) {
	c, _, err := dialEngine(ctx, o.Engine, "", "")
	if err != nil {
		return nil, err
	}
	d := &containerDaemon{engine: c, options: o, build: ctx, image: o.Managed.Container.Image, network: o.Managed.Container.Network}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if d.image == "" {
		self, err := FindSelf(ctx, c)
		if err != nil {
			return nil, err
		}
		d.image, d.network = self.Image, cmp.Or(d.network, self.Network)
	} else if err := d.pull(ctx); err != nil {
		return nil, err
	}
	sweepContainers(ctx, c, o.Job)
	name := d.name()
	if o.Job.ID != "" {
		found, err := c.ContainerInspect(ctx, name, engine.ContainerInspectOptions{})
		if err == nil {
			d.id = found.Container.ID
			return d, nil
		}
	}
	return d, d.create(ctx, name)
}

// pull gets the image unless the engine has it.
func (d *containerDaemon) pull(ctx context.Context) error {
	_, err := d.engine.ImageInspect(ctx, d.image)
	if !errdefs.IsNotFound(err) {
		return err
	}
	answer, err := d.engine.ImagePull(ctx, d.image, engine.ImagePullOptions{})
	if err == nil {
		err = answer.Wait(ctx)
	}
	if err != nil {
		return &Error{What: "pull the builder's image", Hint: "load it into the engine first, or leave image out of driver-opts", Err: err}
	}
	return nil
}

// name is a name that depends on all options, so that steps of a job share a container with
// the same options; "" for a container that is not shared.
func (d *containerDaemon) name() string {
	if d.options.Job.ID == "" {
		return ""
	}
	options, err := json.Marshal([]any{d.options.Job, d.options.Managed, d.image, d.network, d.command()})
	if err != nil {
		panic(err) // it is plain data
	}
	return fmt.Sprintf("warmlayer-%x", sha256.Sum256(options))[:len("warmlayer-")+24]
}

// command is what runs in the container.
func (d *containerDaemon) command() []string {
	join := func(name string) string {
		switch name {
		case configFile:
			return path.Join(configDir, name)
		case "state":
			return path.Join(stateDir, name)
		}
		return path.Join(runDir, name)
	}
	return append([]string{"buildkitd"}, arguments(d.options, join, join("state"), "unix://"+join(socketFile))...)
}

func (d *containerDaemon) start(ctx context.Context) (*client.Client, []ocispecs.Platform, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	// Starting a container that runs changes nothing.
	_, err := d.engine.ContainerStart(ctx, d.id, engine.ContainerStartOptions{})
	var c *client.Client
	var platforms []ocispecs.Platform
	if err == nil {
		c, platforms, err = dial(ctx, "container://"+d.id, client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return d.run(ctx, "warmlayer", "dial-stdio", path.Join(runDir, socketFile))
		}))
	}
	if err == nil {
		if err = d.forwardAgain(ctx); err != nil {
			c.Close()
		}
	}
	if err == nil {
		return c, platforms, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, nil, &Error{What: "start buildkitd in a container", Err: context.Cause(ctx)}
	}
	log := lastLines(d.output(), logLines)
	return nil, nil, &Error{What: "buildkitd in the container does not answer", Hint: hintFor(log), Err: err, Log: log}
}

// ending runs what ends the container, also when the build has been interrupted before. Then it
// gives up soon.
func (d *containerDaemon) ending(end func(context.Context) error) error {
	_, err := waiting.Patiently(d.build, interruptGrace, func() (struct{}, error) {
		ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
		defer cancel()
		return struct{}{}, end(ctx)
	})
	if err != nil && errors.Is(err, context.Cause(d.build)) {
		return &Error{What: "the container engine does not answer, and may keep the builder's container", Hint: "the next run removes it", Err: err}
	}
	return err
}

func (d *containerDaemon) kill() error { return d.ending(d.killWithin) }

func (d *containerDaemon) killWithin(ctx context.Context) error {
	_, err := d.engine.ContainerKill(ctx, d.id, engine.ContainerKillOptions{Signal: "KILL"})
	if err != nil && !errdefs.IsConflict(err) { // a conflict says that it does not run
		return err
	}
	ended := d.engine.ContainerWait(ctx, d.id, engine.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case <-ended.Result:
		return nil
	case err := <-ended.Error:
		return err
	}
}

func (d *containerDaemon) close() error {
	if d.id == "" {
		return nil // it was closed before
	}
	return d.ending(d.closeWithin)
}

func (d *containerDaemon) closeWithin(ctx context.Context) error {
	d.lastOutput = d.outputWithin(ctx)
	var err error
	d.mu.Lock()
	for _, f := range d.forwards {
		err = errors.Join(err, f.Close())
	}
	d.mu.Unlock()
	if d.options.Job.ID == "" {
		err = errors.Join(err, removeContainer(ctx, d.engine, d.id))
	}
	d.id = ""
	return errors.Join(err, d.engine.Close())
}

// remove removes the container and its volume, also while it runs.
func (d *containerDaemon) remove() error {
	return d.ending(func(ctx context.Context) error { return removeContainer(ctx, d.engine, d.id) })
}

// output is the last part of the container's log, which the engine keeps.
func (d *containerDaemon) output() string {
	if d.id == "" {
		return d.lastOutput
	}
	said := make(chan string, 1)
	_ = d.ending(func(ctx context.Context) error { // the channel tells whether there was an answer
		said <- d.outputWithin(ctx)
		return nil
	})
	select {
	case text := <-said:
		return text
	default:
		return ""
	}
}

func (d *containerDaemon) outputWithin(ctx context.Context) string {
	log, err := d.engine.ContainerLogs(ctx, d.id, engine.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "500"})
	if err != nil {
		return ""
	}
	defer log.Close()
	var t tail
	_, _ = stdcopy.StdCopy(&t, &t, log) // after an error: what was read until then
	return t.String()
}

// forwardAgain opens the ports again that were open when the daemon was killed.
func (d *containerDaemon) forwardAgain(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.forwards {
		if err := f.connect(ctx); err != nil {
			return err
		}
	}
	return nil
}
