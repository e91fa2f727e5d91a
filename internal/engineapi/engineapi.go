// Package engineapi makes the requests to a container engine that are about images: it connects to
// the BuildKit inside the engine, loads images, and lets the engine push those that it has. How far
// these are is shown as the progress of a build.
//
//	e, err := engineapi.Ask(ctx, client)
//	b, err := e.BuildKit(ctx)                 // as the docker driver of buildx
//	w := e.Loading(ctx, &running, display)    // "importing to docker"
//	digest, err := e.Push(ctx, "ghcr.io/o/app:1", credentials, display)
package engineapi

import (
	"context"
	"net"
	"slices"

	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/moby/client"
)

// Engine is a container engine that has answered.
type Engine struct {
	*client.Client

	// Containerd tells whether the engine's images are in containerd's store, which accepts an index,
	// and uses the digest of the manifest as an image's ID (docker buildx v0.37.0, util/dockerutil).
	// Otherwise they are in the store of a graph driver: layers without compression, and the digest of
	// the config as the ID.
	Containerd bool
}

// Ask asks an engine what store it has.
func Ask(ctx context.Context, c *client.Client) (Engine, error) {
	answer, err := c.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Engine{}, err
	}
	return Engine{c, slices.Contains(answer.Info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"})}, nil
}

// BuildKit is a client of the BuildKit inside the engine. Its control API and its sessions are behind
// the engine's API, as connections that are upgraded (docker buildx v0.37.0, driver/docker/driver.go).
// It connects with the first request.
func (e Engine) BuildKit(ctx context.Context) (*buildkit.Client, error) {
	return buildkit.New(ctx, "", buildkit.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return e.DialHijack(ctx, "/grpc", "h2c", nil)
	}), buildkit.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
		return e.DialHijack(ctx, "/session", proto, meta)
	}))
}
