// Package builder connects to a BuildKit, or starts one.
//
// A daemon that it starts lives in a private directory and in namespaces of its
// own, so that nothing of it outlasts the process that started it: no process, no
// container, no mount, no file.
//
//	b, err := builder.Open(ctx, builder.Options{Environ: os.Environ()})
//	if err != nil {
//		return err // says what is missing, and how to get it
//	}
//	defer b.Close()
//	_, err = b.Client.Solve(ctx, definition, solveOpt, status)
//
// The package is for Linux, as BuildKit's daemon is.
package builder

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	// Each of these teaches client.New one more scheme.
	_ "github.com/moby/buildkit/client/connhelper/kubepod"
	_ "github.com/moby/buildkit/client/connhelper/nerdctlcontainer"
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer"
	_ "github.com/moby/buildkit/client/connhelper/ssh"
)

// Options says which BuildKit to use.
type Options struct {
	// Address is one of
	//
	//	auto, or ""  the BUILDKIT_HOST of Environ; without one, container where this process
	//	             is root of a container without the rights for embedded; else embedded
	//	embedded     a daemon of our own; rootless unless this process is root
	//	rootless     a daemon of our own, through RootlessKit, for users other than root
	//	container    a daemon of our own in a container that Engine runs, beside ours
	//	unix:///run/buildkit/buildkitd.sock, tcp://host:1234,
	//	docker-container://name, podman-container://name, nerdctl-container://name,
	//	kube-pod://pod?namespace=ns, ssh://user@host
	//	             a daemon that runs already, as buildctl --addr takes it; a Docker container
	//	             may have stopped, and its ?context= may also be an engine's address
	Address string

	// Environ is the environment, as os.Environ gives it. BUILDKIT_HOST, PATH and
	// TMPDIR are read from it; a daemon of our own inherits of it the proxy settings,
	// HOME, PATH and the places of certificates, no more. The programs behind an
	// address (ssh, podman, kubectl) get the environment of this process.
	Environ []string

	// TempDir is where the private directory of a daemon of our own is made;
	// "" is TMPDIR, or /tmp. All that the daemon stores lies in it. A file system in
	// memory (tmpfs) serves, and is faster.
	TempDir string

	// TLS is for an address with tcp://; nil is plain TCP. Its ServerName is the address's
	// host where it has none.
	TLS *tls.Config

	// Entitlements are what a daemon of our own lets builds have that ask for it:
	// "network.host", "security.insecure", "device", or "device=" and one of its devices.
	Entitlements []string

	// Flags are further ones for a daemon of our own, each with its value:
	// "--oci-max-parallelism=2". They win over those that the package chooses.
	Flags []string

	// Config is the buildkitd.toml of a daemon of our own; "" is an empty one. Paths in
	// it are absolute. What decides where the daemon lives and listens has no effect.
	Config string

	// Env are further variables of a daemon of our own, as in os.Environ.
	Env []string

	// ConfigFiles are the files and directories, by absolute paths, that Config names.
	ConfigFiles []string

	// Engine runs a daemon in a container, ours or that of docker-container://, and Container
	// is what ours is given besides.
	Engine    Engine
	Container Container

	// Platforms are what the build is for: "linux/arm64". Where a daemon of our own cannot
	// run the programs of one of them, it gets an emulator for the time that it lives,
	// if QEMU's is on PATH and the system allows it. Builder.Platforms tells.
	Platforms []string
}

// Remote is the address of the daemon that Open would connect to, and "" where it would
// start one.
func (o Options) Remote() string {
	switch o.Address {
	case "", "auto":
		return variable(o.Environ, "BUILDKIT_HOST")
	case "embedded", "rootless", "container":
		return ""
	}
	return o.Address
}

// Builder is a BuildKit that answers.
type Builder struct {
	// Client speaks to it. Restart replaces it.
	Client *client.Client

	// Ours tells a daemon that Open started. It reaches a registry that listens where
	// Listen says over plain HTTP: what BuildKit does by itself for loopback addresses
	// (util/resolver/resolver.go, v0.33.1).
	Ours bool

	// Address is "embedded", "rootless", "container", or the address, without a password.
	Address string

	// Platforms are those that it can build for. The first is its own, which a build
	// gets that names none.
	Platforms []ocispecs.Platform

	mu      sync.Mutex // Restart and Close take turns
	daemon  instance   // nil unless Ours
	through io.Closer  // what Client needs besides; nil: nothing
}

// instance is a buildkitd of our own: a process, or a container.
type instance interface {
	// start returns once the daemon answers. When it fails, none runs.
	start(ctx context.Context) (*client.Client, []ocispecs.Platform, error)
	// kill ends it at once; start may follow, and finds its state.
	kill() error
	// close ends it and removes what it has left, unless it is kept for others.
	close() error
	// listen opens a port on its loopback interface.
	listen(ctx context.Context) (net.Listener, error)
	// words are the last that it has written.
	words() string
}

// answerTimeout bounds the wait for a daemon's first answer. It is long because a
// connection may go through ssh or kubectl.
const answerTimeout = 30 * time.Second

// schemes are the addresses that can be dialled.
var schemes = []string{"unix", "tcp", "docker-container", "podman-container", "nerdctl-container", "kube-pod", "ssh"}

// Open connects to the BuildKit that o names, or starts one, and waits until it
// answers. Once ctx ends it gives up, and leaves nothing behind. What the user can
// put right is reported as an *Error.
func Open(ctx context.Context, o Options) (*Builder, error) {
	host := variable(o.Environ, "BUILDKIT_HOST")
	switch address := o.Address; {
	case (address == "" || address == "auto") && host != "":
		return connect(ctx, host, " (from BUILDKIT_HOST)", o)
	case (address == "" || address == "auto") && needsContainer():
		if b, err := contain(ctx, o); err == nil || ctx.Err() != nil {
			return b, err
		}
		return embed(ctx, o, false) // whose error tells what else there is
	case address == "" || address == "auto" || address == "embedded":
		return embed(ctx, o, os.Geteuid() != 0)
	case address == "rootless":
		if os.Geteuid() == 0 {
			return nil, &Error{
				What: "rootless is for users other than root",
				Hint: "use embedded, or run as another user",
			}
		}
		return embed(ctx, o, true)
	case address == "container":
		return contain(ctx, o)
	default:
		return connect(ctx, address, "", o)
	}
}

// connect returns a builder for a daemon that runs already. The origin of the
// address is for the error message.
func connect(ctx context.Context, address, origin string, o Options) (*Builder, error) {
	u, err := url.Parse(address)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Scheme == "docker-container" && u.Hostname() == "" {
		return nil, &Error{
			What: fmt.Sprintf("%q%s is no address of a BuildKit", redacted(address), origin),
			Hint: "use auto, embedded, rootless, container, or an address that starts with " + strings.Join(schemes, "://, ") + "://",
		}
	}
	answer, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	b := &Builder{Address: redacted(address)}
	secure := u.Scheme == "tcp" && o.TLS != nil
	switch {
	case u.Scheme == "docker-container":
		b.Address = u.Scheme + "://" + u.Hostname()
		b.Client, b.Platforms, b.through, err = dialContainer(answer, u, o.Engine)
	case secure:
		b.Client, b.Platforms, err = dial(answer, address, secured(o.TLS)...)
	default:
		b.Client, b.Platforms, err = dial(answer, address)
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
	hint := connectHint(err, secure)
	if u.Scheme == "docker-container" {
		hint = hintInContainer + u.Hostname()
	}
	return nil, &Error{What: "no BuildKit answers at " + b.Address + origin, Hint: hint, Err: err}
}

// secured are options for a connection over TLS. gRPC wants the name that the certificate is
// for and the one that it asks for to be one.
func secured(security *tls.Config) []client.ClientOpt {
	options := []client.ClientOpt{client.WithGRPCDialOption(grpc.WithTransportCredentials(credentials.NewTLS(security)))}
	if security.ServerName != "" {
		options = append(options, client.WithGRPCDialOption(grpc.WithAuthority(security.ServerName)))
	}
	return options
}

// embed returns a builder for a daemon that it starts.
func embed(ctx context.Context, o Options, rootless bool) (*Builder, error) {
	d, err := newDaemon(o, rootless)
	if err != nil {
		return nil, err
	}
	c, platforms, err := d.start(ctx)
	if err != nil {
		return nil, errors.Join(err, d.remove())
	}
	b := &Builder{Client: c, Ours: true, Address: "embedded", Platforms: platforms, daemon: d}
	if rootless {
		b.Address = "rootless"
	}
	return b, nil
}

// dial connects to address and returns what the daemon there can build for: an
// answer that only a working daemon gives.
func dial(ctx context.Context, address string, options ...client.ClientOpt) (*client.Client, []ocispecs.Platform, error) {
	c, err := client.New(ctx, address, options...)
	if err != nil {
		return nil, nil, err
	}
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
		return nil, nil, err
	}
	// BuildKit lists its default worker first (worker/workercontroller.go).
	return c, workers[0].Platforms, nil
}

// Restart kills a daemon of ours, which may hang, and starts it again with the
// state that it had. No solve may use Client meanwhile. When it fails there is no
// daemon any more, and Close is still due. For a daemon that is not ours it is an
// error, and does nothing.
func (b *Builder) Restart(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.daemon == nil {
		return fmt.Errorf("restart %s: not a daemon of ours", b.Address)
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

// Log returns the last 64 KiB that a daemon of ours has written, also after Close;
// "" for any other.
func (b *Builder) Log() string {
	if b.daemon == nil {
		return ""
	}
	return b.daemon.words()
}

// Close ends the connection. A daemon of ours it stops within about three seconds,
// whatever that is doing, and removes all that it has left, but for a container that
// later steps of the job use. Further calls do nothing.
func (b *Builder) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Only a connection that is closed already gives an error.
	b.Client.Close()
	switch {
	case b.daemon != nil:
		return b.daemon.close()
	case b.through != nil:
		return b.through.Close()
	}
	return nil
}

// Listen opens a port of 127.0.0.1 where the daemon runs, which must be one of ours; the
// listener's address is the one that the daemon knows. What connects there is accepted
// here, also after a Restart.
func (b *Builder) Listen(ctx context.Context) (net.Listener, error) {
	if b.daemon == nil {
		return nil, fmt.Errorf("listen beside %s: not a daemon of ours", b.Address)
	}
	return b.daemon.listen(ctx)
}
