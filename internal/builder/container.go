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
)

// Job is one run of a CI's job, whose steps share a managed builder in a container: it stays
// until [RemoveJob], and each step that asks for one with the same options uses it. The zero
// value: the container serves this process only, and ends with it.
type Job struct {
	ID     string // of the run; "": none
	Runner string // the CI's runner, which runs jobs one after another: what its earlier jobs have left is removed
}

const (
	// stateDir is the daemon's state, on a volume: overlays do not stack on overlays.
	stateDir = "/var/lib/warmlayer"
	// runDir is in memory, so that a daemon that was killed leaves no socket.
	runDir = "/run/warmlayer"
	// configDir is in the image's file system, where files can be put beforehand.
	configDir = "/etc/warmlayer"

	// engineTimeout bounds what an engine is asked in between; a pull has no bound.
	engineTimeout = time.Minute
)

// sibling is a daemon of our own in a container, which an engine runs beside ours.
// It has no port: all goes through standard streams of programs run in it.
type sibling struct {
	engine  *engine.Client
	options Options
	image   string
	network string
	id      string
	made    bool // by us, and nobody else knows it yet

	mu       sync.Mutex
	forwards []*forwarded
	last     string // words of a container that is gone
}

// contain returns a builder for a daemon in a container that it makes, or finds.
func contain(ctx context.Context, o Options) (*Builder, error) {
	s, err := newSibling(ctx, o)
	if err != nil {
		return nil, err
	}
	c, platforms, err := s.start(ctx)
	if err != nil {
		if s.made {
			err = errors.Join(err, s.remove())
		}
		return nil, errors.Join(err, s.engine.Close())
	}
	return &Builder{Client: c, Ours: true, Address: "container", Platforms: platforms, daemon: s}, nil
}

// newSibling finds the engine and the image, removes what others have left, and makes
// the container if there is none to share.
func newSibling(ctx context.Context, o Options) (_ *sibling, err error) {
	c, _, err := o.Engine.dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	s := &sibling{engine: c, options: o, image: o.Managed.Container.Image, network: o.Managed.Container.Network}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if s.image == "" {
		self, err := FindSelf(ctx, c)
		if err != nil {
			return nil, err
		}
		s.image, s.network = self.Image, cmp.Or(s.network, self.Network)
	} else if err := s.pull(ctx); err != nil {
		return nil, err
	}
	sweepContainers(ctx, c, o.Job)
	name := s.name()
	if o.Job.ID != "" {
		found, err := c.ContainerInspect(ctx, name, engine.ContainerInspectOptions{})
		if err == nil {
			s.id = found.Container.ID
			return s, nil
		}
	}
	return s, s.create(ctx, name)
}

// pull gets the image where the engine does not have it.
func (s *sibling) pull(ctx context.Context) error {
	_, err := s.engine.ImageInspect(ctx, s.image)
	if !errdefs.IsNotFound(err) {
		return err
	}
	answer, err := s.engine.ImagePull(ctx, s.image, engine.ImagePullOptions{})
	if err == nil {
		err = answer.Wait(ctx)
	}
	if err != nil {
		return &Error{What: "pull the builder's image", Hint: "load it into the engine first, or leave image out of driver-opts", Err: err}
	}
	return nil
}

// name is one that only containers just like this one have, if it is to be shared.
func (s *sibling) name() string {
	if s.options.Job.ID == "" {
		return ""
	}
	like, err := json.Marshal([]any{s.options.Job, s.options.Managed, s.image, s.network, s.command()})
	if err != nil {
		panic(err) // it is plain data
	}
	return fmt.Sprintf("warmlayer-%x", sha256.Sum256(like))[:len("warmlayer-")+24]
}

// command is what runs in the container.
func (s *sibling) command() []string {
	join := func(name string) string {
		switch name {
		case configFile:
			return path.Join(configDir, name)
		case "state":
			return path.Join(stateDir, name)
		}
		return path.Join(runDir, name)
	}
	return append([]string{"buildkitd"}, arguments(s.options, join, "unix://"+join(socketFile))...)
}

func (s *sibling) start(ctx context.Context) (*client.Client, []ocispecs.Platform, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	// One that runs is left as it is.
	_, err := s.engine.ContainerStart(ctx, s.id, engine.ContainerStartOptions{})
	var c *client.Client
	var platforms []ocispecs.Platform
	if err == nil {
		c, platforms, err = dial(ctx, "container://"+s.id, client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return s.run(ctx, "warmlayer", "dial-stdio", path.Join(runDir, socketFile))
		}))
	}
	if err == nil {
		if err = s.forwardAgain(ctx); err != nil {
			c.Close()
		}
	}
	if err == nil {
		return c, platforms, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, nil, &Error{What: "start buildkitd in a container", Err: context.Cause(ctx)}
	}
	log := lastLines(s.words(), logLines)
	return nil, nil, &Error{What: "buildkitd in a container does not answer", Hint: hintFor(log), Err: err, Log: log}
}

func (s *sibling) kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
	defer cancel()
	_, err := s.engine.ContainerKill(ctx, s.id, engine.ContainerKillOptions{Signal: "KILL"})
	if err != nil && !errdefs.IsConflict(err) { // a conflict: it does not run
		return err
	}
	ended := s.engine.ContainerWait(ctx, s.id, engine.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case <-ended.Result:
		return nil
	case err := <-ended.Error:
		return err
	}
}

func (s *sibling) close() error {
	if s.id == "" {
		return nil // closed before
	}
	s.last = s.words()
	var err error
	s.mu.Lock()
	for _, f := range s.forwards {
		err = errors.Join(err, f.Close())
	}
	s.mu.Unlock()
	if s.options.Job.ID == "" {
		err = errors.Join(err, s.remove())
	}
	s.id = ""
	return errors.Join(err, s.engine.Close())
}

// remove removes the container with its volume, whatever it is doing.
func (s *sibling) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
	defer cancel()
	return removeContainer(ctx, s.engine, s.id)
}

// words are the container's log, which the engine keeps.
func (s *sibling) words() string {
	if s.id == "" {
		return s.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
	defer cancel()
	log, err := s.engine.ContainerLogs(ctx, s.id, engine.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "500"})
	if err != nil {
		return ""
	}
	defer log.Close()
	var t tail
	_, _ = stdcopy.StdCopy(&t, &t, log) // what could be read of it
	return t.String()
}

// forwardAgain opens the ports anew that were open when the daemon was killed.
func (s *sibling) forwardAgain(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.forwards {
		if err := f.connect(ctx); err != nil {
			return err
		}
	}
	return nil
}
