package builder

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	engine "github.com/moby/moby/client"
)

// create makes the container and starts it, with all privileges or, where the engine
// does not give these, with what a daemon needs at least. It is not an error when another
// step has made the same one meanwhile.
func (s *sibling) create(ctx context.Context, name string) error {
	var refused error
	for _, rights := range []func(*container.HostConfig){privileged, capable} {
		host := s.host()
		rights(host)
		made, err := s.engine.ContainerCreate(ctx, engine.ContainerCreateOptions{Name: name, Config: s.config(), HostConfig: host})
		if errdefs.IsConflict(err) && name != "" {
			found, err := s.engine.ContainerInspect(ctx, name, engine.ContainerInspectOptions{})
			s.id = found.Container.ID
			return err
		}
		if err == nil {
			s.id, s.made = made.ID, true
			if err = s.putFiles(ctx); err == nil {
				_, err = s.engine.ContainerStart(ctx, s.id, engine.ContainerStartOptions{})
			}
			if err == nil {
				return nil
			}
			err = errors.Join(err, s.remove())
		}
		if ctx.Err() != nil {
			return &Error{What: "start a container", Err: context.Cause(ctx)}
		}
		refused = errors.Join(refused, err)
	}
	return &Error{What: "the engine runs no container for a builder", Hint: hintContainer, Err: refused}
}

// config is what runs, and how it is known again.
func (s *sibling) config() *container.Config {
	env := slices.DeleteFunc(daemonEnviron(s.options.Environ, runDir), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !strings.HasSuffix(strings.ToLower(name), "_proxy") // the rest is about our own file system
	})
	return &container.Config{
		Image:      s.image,
		Entrypoint: s.command(),
		Cmd:        []string{},
		User:       "0",
		WorkingDir: "/",
		Env:        slices.Concat(env, []string{"TMPDIR=" + stateDir}, s.options.Managed.Env),
		Labels:     map[string]string{labelBuilder: "true", labelJob: s.options.Job.ID, labelRunner: s.options.Job.Runner},
	}
}

// host is what the container has of the machine.
func (s *sibling) host() *container.HostConfig {
	return &container.HostConfig{
		NetworkMode: container.NetworkMode(s.network),
		Resources:   s.options.Managed.Container.Resources,
		Tmpfs:       map[string]string{"/run": "mode=755"},
		Mounts:      []mount.Mount{{Type: mount.TypeVolume, Target: stateDir}}, // without a name it goes with the container
	}
}

// privileged gives everything. An engine with remapped users keeps it from containers
// that are remapped.
func privileged(h *container.HostConfig) {
	h.Privileged = true
	h.UsernsMode = "host"
}

// capable gives what buildkitd and runc need: to mount, to make namespaces and their
// networks, an unmasked /proc for those of their own containers, and control groups.
func capable(h *container.HostConfig) {
	h.CapAdd = []string{"SYS_ADMIN", "NET_ADMIN"}
	h.SecurityOpt = []string{"seccomp=unconfined", "apparmor=unconfined"}
	h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeBind, Source: "/sys/fs/cgroup", Target: "/sys/fs/cgroup"})
}

// putFiles gives a container that does not run yet its configuration, and the files that
// this names, at the same paths.
func (s *sibling) putFiles(ctx context.Context) error {
	files := archive(s.options.Managed.Config, s.options.Managed.ConfigFiles)
	defer files.Close()
	_, err := s.engine.CopyToContainer(ctx, s.id, engine.CopyToContainerOptions{DestinationPath: "/", Content: files})
	return err
}
