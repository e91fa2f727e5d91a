package builder

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	engine "github.com/moby/moby/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/engineapi"
)

// dialContainer connects to the builder in a container that was made elsewhere, in most
// cases buildx: docker-container://. A container that has stopped is started. The connection
// leads through buildctl in the container, as that of BuildKit's own client does
// (client/connhelper/dockercontainer, v0.34.2), but through the engine's API: the docker
// program is not needed. The caller closes the connection to the engine, which is returned
// last.
func dialContainer(ctx context.Context, a builderspec.Address, e engineapi.Place) (*client.Client, []ocispecs.Platform, io.Closer, error) {
	name, engineContext := a.Container, a.Engine
	if strings.Contains(engineContext, "://") {
		if engineContext != e.Host {
			e.Host, e.CertDir = engineContext, ""
		}
		engineContext = ""
	}
	at, host, err := dialEngine(ctx, e, engineContext, "find container "+name+": ")
	if err != nil {
		return nil, nil, nil, err
	}
	started, err := startContainer(ctx, at, name)
	var c *client.Client
	var platforms []ocispecs.Platform
	switch {
	case errdefs.IsNotFound(err):
		err = noContainer(ctx, at, host, name)
	case err == nil:
		c, platforms, err = dialBuildctl(ctx, at, name, started)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, at.Close())
	}
	return c, platforms, at, nil
}

// startContainer starts a container unless it runs, and tells whether it had to.
func startContainer(ctx context.Context, at *engine.Client, name string) (bool, error) {
	found, err := at.ContainerInspect(ctx, name, engine.ContainerInspectOptions{})
	if err != nil || found.Container.State.Running {
		return false, err
	}
	_, err = at.ContainerStart(ctx, name, engine.ContainerStartOptions{})
	return true, err
}

// startInterval is the time between two attempts to connect to a daemon that was started. Each
// one runs a program in its container.
const startInterval = 100 * time.Millisecond

// dialBuildctl connects to the daemon in a container. It waits for the daemon of one that was
// just started.
func dialBuildctl(ctx context.Context, at *engine.Client, name string, started bool) (*client.Client, []ocispecs.Platform, error) {
	dialer := client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return runIn(ctx, at, name, "", "buildctl", "dial-stdio")
	})
	tick := time.NewTicker(startInterval)
	defer tick.Stop()
	for {
		c, platforms, err := dial(ctx, "container://"+name, dialer)
		if err == nil || !started {
			return c, platforms, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, err
		case <-tick.C:
		}
	}
}

// buildxContainer is the name that buildx gives to the container of a node: it has the builder's
// name and a number (v0.37.0, driver/driver.go, store/nodegroup.go).
var buildxContainer = regexp.MustCompile(`^/?buildx_buildkit_(.+)\d$`)

// noContainer is the error for a container that the engine does not have. It names the builders
// of buildx that it has.
func noContainer(ctx context.Context, at *engine.Client, host, name string) error {
	asked := buildxContainer.FindStringSubmatch(name)
	if asked == nil {
		return &Error{What: "the container engine at " + builderspec.Redacted(host) + " has no container " + name, Hint: "docker ps --all lists those that it has"}
	}
	list, err := at.ContainerList(ctx, engine.ContainerListOptions{All: true})
	if err != nil {
		return err
	}
	var others []string
	for _, c := range list.Items {
		for _, name := range c.Names {
			if other := buildxContainer.FindStringSubmatch(name); other != nil && !slices.Contains(others, other[1]) {
				others = append(others, other[1])
			}
		}
	}
	hint := "start it (docker buildx inspect --bootstrap " + asked[1] + "), or leave builder out to get a managed one"
	if slices.Sort(others); len(others) > 0 {
		hint = "use one that exists (" + strings.Join(others, ", ") + "), " + hint
	}
	return &Error{What: "the container engine at " + builderspec.Redacted(host) + " has no buildx builder " + asked[1], Hint: hint}
}
