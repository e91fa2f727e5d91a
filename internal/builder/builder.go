// Package builder connects to a remote builder, which runs already, to the BuildKit inside a
// container engine, or starts a managed one: a BuildKit in a process, or in a container.
//
// A managed builder in a process has a private directory and namespaces of its own. When the
// process that started it ends, no process, container, mount or file of it remains.
//
//	b, err := builder.Open(ctx, builder.Options{Environ: os.Environ()}) // builderspec.Auto
//	if err != nil {
//		return err // says what is missing, and how to get it
//	}
//	defer b.Close()
//	_, err = b.Client.Solve(ctx, definition, solveOpt, status)
//
// The package is for Linux, as buildkitd is.
package builder

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/engineapi"

	// Each of these adds a scheme to client.New.
	_ "github.com/moby/buildkit/client/connhelper/kubepod"
	_ "github.com/moby/buildkit/client/connhelper/nerdctlcontainer"
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer"
	_ "github.com/moby/buildkit/client/connhelper/ssh"
)

// Options says which builder to use. The zero value starts one.
type Options struct {
	// Address is the builder's. A container at docker-container:// may have stopped: it is
	// started.
	Address builderspec.Address

	// TLS is for an address at tcp://.
	TLS builderspec.TLS

	// Managed is what a managed builder is started with.
	Managed builderspec.Managed

	// Environ is the environment, as os.Environ gives it. PATH and TMPDIR are read from it; a
	// managed builder inherits from it the proxy settings, HOME, PATH and the paths of
	// certificates, and nothing else. The private directory of a builder that is a process is
	// made in TMPDIR, or in /tmp, and holds everything that the builder stores: a file system
	// in memory (tmpfs) is faster. The programs behind an address (ssh, podman, kubectl) get
	// the environment of this process.
	Environ []string

	// Entitlements are what a managed builder allows builds that ask for it:
	// "network.host", "security.insecure", "device", or "device=" and one of its devices.
	Entitlements []string

	// Program is the absolute path of the program that gives the steps of a managed builder in a
	// process a network of their own: it calls [stepnet.Attach] for [stepnet.Command]. "": the
	// steps are on the machine's network.
	Program string

	// Metadata lets steps on a network of their own reach the addresses at which clouds give a
	// machine its identity.
	Metadata bool

	// Engine runs the container of a managed builder, or that of docker-container://, or is the builder.
	Engine engineapi.Place

	// Shared lets Auto take the BuildKit inside the engine, which other builds use too: they share its
	// cache mounts.
	Shared bool

	// Job is for a managed builder in a container.
	Job Job

	// Platforms are those that are built, normalised: "linux/arm64". Where a managed builder cannot run
	// programs of one of them it gets an emulator for as long as it runs, if QEMU's is on PATH
	// and the system allows it. Builder.Platforms tells.
	Platforms []string
}

// Builder is a BuildKit that answers.
type Builder struct {
	// Client is the connection to it. Restart replaces it.
	Client *client.Client

	// Managed tells whether Open has started it. A managed builder can read, over plain HTTP,
	// from a registry at the address of a listener that Listen returns: BuildKit uses HTTP for
	// loopback addresses (v0.34.2, util/resolver/resolver.go).
	Managed bool

	// Address is "embedded", "rootless", "container", "engine", or the address, without a password.
	Address string

	// Inside is the engine whose own BuildKit this is, which closes with it; nil: another kind of builder.
	// HostGateway is the address by which its steps reach the engine's machine; "": not known.
	Inside      *engineapi.Engine
	HostGateway string

	// Instead is why no managed builder was started, where Auto took the BuildKit inside the engine; "": that
	// was asked for.
	Instead string

	// Platforms are those that it can build for. The first is its own: that of a build that
	// names none.
	Platforms []ocispecs.Platform

	// Network is what RUN steps are on that choose none.
	Network Network

	// State is what became of the state that Options.Managed names, for people: "kept in /var/lib/warmlayer", or that the
	// builder started empty, and why. "": none is named. Keeps tells whether it is kept for the next run, and Used whether a
	// former run has left something in it.
	State       string
	Keeps, Used bool

	mu         sync.Mutex // held by Restart and by Close
	daemon     daemon     // nil unless Managed
	underlying io.Closer  // what Client needs to stay open; nil: nothing
}

// daemon is the buildkitd of a managed builder: a process, or a container.
type daemon interface {
	// start returns when the daemon answers. After an error none runs.
	start(ctx context.Context) (*client.Client, []ocispecs.Platform, error)
	// kill ends it at once. It can be started again, with the state that it had.
	kill() error
	// close ends it and removes what it has left, except a container that later steps use.
	close() error
	// listen opens a port on its loopback interface.
	listen(ctx context.Context) (net.Listener, error)
	// output is the last part of what it has written.
	output() string
}

// answerTimeout bounds the wait for a daemon's first answer. It is long because the connection
// may lead through ssh or kubectl.
const answerTimeout = 30 * time.Second

// Open connects to the builder that o names, or starts one, and waits until it answers. When
// ctx ends it gives up, and leaves nothing behind. What the user can put right is an *Error.
func Open(ctx context.Context, o Options) (*Builder, error) {
	switch o.Address.Kind {
	case builderspec.Remote:
		return connect(ctx, o)
	case builderspec.Container:
		return contain(ctx, o)
	case builderspec.Rootless:
		if os.Geteuid() == 0 {
			return nil, &Error{
				What: "rootless is for users other than root",
				Hint: "use embedded, or run as another user",
			}
		}
	case builderspec.Engine:
		return inEngine(ctx, o)
	case builderspec.Auto:
		return automatic(ctx, o)
	}
	return embed(ctx, o, os.Geteuid() != 0)
}

// connect returns a remote builder.
func connect(ctx context.Context, o Options) (*Builder, error) {
	security, err := o.TLS.Config()
	if err != nil {
		return nil, err
	}
	answer, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	a := o.Address
	b := &Builder{Address: a.String(), Network: Network{NetworkRemote, "the builder runs already"}}
	secure := a.Scheme == "tcp" && security != nil
	switch {
	case a.Container != "":
		b.Client, b.Platforms, b.underlying, err = dialContainer(answer, a, o.Engine)
	case secure:
		b.Client, b.Platforms, err = dial(answer, a.URL, secured(security)...)
	default:
		b.Client, b.Platforms, err = dial(answer, a.URL)
	}
	var known *Error
	switch {
	case err == nil:
		return b, nil
	case ctx.Err() != nil:
		return nil, &Error{What: "connect to " + b.Address, Err: context.Cause(ctx)}
	case errors.As(err, &known):
		return nil, err
	}
	what := "no BuildKit answers at " + b.Address
	if a.Origin != "" {
		what += " (from " + a.Origin + ")"
	}
	hint := connectHint(err, secure)
	if a.Container != "" {
		hint = hintInContainer + a.Container
	}
	return nil, &Error{What: what, Hint: hint, Err: err}
}

// secured are the options for a connection over TLS. gRPC requires that the name in the
// certificate and the name that it asks for are the same.
func secured(security *tls.Config) []client.ClientOpt {
	options := []client.ClientOpt{client.WithGRPCDialOption(grpc.WithTransportCredentials(credentials.NewTLS(security)))}
	if security.ServerName != "" {
		options = append(options, client.WithGRPCDialOption(grpc.WithAuthority(security.ServerName)))
	}
	return options
}

// embed starts a managed builder in a process.
func embed(ctx context.Context, o Options, rootless bool) (*Builder, error) {
	d, err := newProcessDaemon(o, rootless)
	if err != nil {
		return nil, err
	}
	c, platforms, err := d.openKept(ctx)
	if err != nil {
		if d.kept != nil {
			err = errors.Join(err, d.kept.leave())
		}
		return nil, errors.Join(err, d.remove())
	}
	b := &Builder{Client: c, Managed: true, Address: "embedded", Platforms: platforms, Network: d.steps, State: d.state, daemon: d}
	b.Keeps = d.kept != nil
	b.Used = b.Keeps && d.kept.used
	if rootless {
		b.Address = "rootless"
	}
	return b, nil
}

// dial connects to address and returns the platforms that the daemon there builds for, an
// answer that proves that it works.
func dial(ctx context.Context, address string, options ...client.ClientOpt) (*client.Client, []ocispecs.Platform, error) {
	c, err := client.New(ctx, address, options...)
	if err != nil {
		return nil, nil, err
	}
	workers, err := answering(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	return c, workers[0].Platforms, nil
}

// answering returns the workers of a daemon, the default one first (worker/workercontroller.go), or
// closes the connection.
func answering(ctx context.Context, c *client.Client) ([]*client.WorkerInfo, error) {
	workers, err := c.ListWorkers(ctx)
	if err == nil && (len(workers) == 0 || len(workers[0].Platforms) == 0) {
		err = errors.New("the daemon has no worker")
	}
	if err != nil {
		c.Close()
		if ctx.Err() != nil {
			// gRPC's own error does not unwrap to the context's.
			err = context.Cause(ctx)
		}
	}
	return workers, err
}

// Restart kills a managed builder, which may hang, and starts it again with the state that it
// had. Client must not be in use. After an error no builder runs, and Close is still due. For a
// remote builder it returns an error, and changes nothing.
func (b *Builder) Restart(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.daemon == nil {
		return fmt.Errorf("restart %s: it is not a managed builder", b.Address)
	}
	b.Client.Close()
	if err := b.daemon.kill(); err != nil {
		return err
	}
	c, _, err := b.daemon.start(ctx)
	if err != nil {
		return err
	}
	b.Client = c
	return nil
}

// Log returns the last 64 KiB that a managed builder has written, also after Close; "" for a
// remote one.
func (b *Builder) Log() string {
	if b.daemon == nil {
		return ""
	}
	return b.daemon.output()
}

// Close ends the connection. It stops a managed builder within about three seconds, whatever
// that is doing, and removes everything that it has left, except a container that later steps
// of the job use, and a kept state. One that keeps its state may take up to 70 seconds, see [Builder.Hurry]. Further calls do
// nothing.
func (b *Builder) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Client.Close() // an error says that it was closed before
	switch {
	case b.daemon != nil:
		return b.daemon.close()
	case b.underlying != nil:
		return b.underlying.Close()
	}
	return nil
}

// Listen opens a port of 127.0.0.1 where a managed builder runs. The listener's address is the
// one that the builder can connect to; connections are accepted in this process, also after a
// Restart.
func (b *Builder) Listen(ctx context.Context) (net.Listener, error) {
	if b.daemon == nil {
		return nil, fmt.Errorf("listen beside %s: it is not a managed builder", b.Address)
	}
	return b.daemon.listen(ctx)
}
