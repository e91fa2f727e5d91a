package builder

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	engine "github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/waiting"
)

// create creates the container and starts it: privileged or, where the engine refuses this,
// with the capabilities that buildkitd needs. When another step of the job has created the
// same container meanwhile it uses that one.
func (d *containerDaemon) create(ctx context.Context, name string) error {
	var refused error
	for _, rights := range []func(*container.HostConfig){privileged, capable} {
		host := d.host()
		rights(host)
		made, err := d.createContainer(ctx, engine.ContainerCreateOptions{Name: name, Config: d.config(), HostConfig: host})
		if errdefs.IsConflict(err) && name != "" {
			found, err := d.engine.ContainerInspect(ctx, name, engine.ContainerInspectOptions{})
			d.id = found.Container.ID
			return err
		}
		if err == nil {
			d.id, d.created = made.ID, true
			if err = d.putFiles(ctx); err == nil {
				_, err = d.engine.ContainerStart(ctx, d.id, engine.ContainerStartOptions{})
			}
			if err == nil {
				return nil
			}
			err = errors.Join(err, d.remove())
		}
		if ctx.Err() != nil {
			return &Error{What: "start a container", Err: context.Cause(ctx)}
		}
		refused = errors.Join(refused, err)
	}
	return &Error{What: "the container engine refuses to run the builder's container", Hint: hintContainer, Err: refused}
}

// createContainer waits for the engine's answer for a while after an interruption too: an engine goes on
// with what it has begun, and the answer has the name by which it is removed.
func (d *containerDaemon) createContainer(ctx context.Context, o engine.ContainerCreateOptions) (engine.ContainerCreateResult, error) {
	if ctx.Err() != nil {
		return engine.ContainerCreateResult{}, context.Cause(ctx)
	}
	return waiting.Patiently(ctx, interruptGrace, func() (engine.ContainerCreateResult, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), engineTimeout)
		defer cancel()
		return d.engine.ContainerCreate(ctx, o)
	})
}

// config is what the container runs, and the labels by which it is found again.
func (d *containerDaemon) config() *container.Config {
	env := slices.DeleteFunc(daemonEnviron(d.options.Environ, runDir), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !strings.HasSuffix(strings.ToLower(name), "_proxy") // all others name files of this process's file system
	})
	env = slices.Concat(env, []string{"TMPDIR=" + stateDir}, d.options.Managed.Env)
	if d.options.Managed.Authorities != "" {
		env = trusting(env, path.Join(configDir, authoritiesDir))
	}
	labels := map[string]string{labelBuilder: "true", labelJob: d.options.Job.ID, labelRunner: d.options.Job.Runner}
	if d.options.Job.ID == "" {
		labels[labelOwner] = thisProcess()
	}
	return &container.Config{
		Image:      d.image,
		Entrypoint: d.command(),
		Cmd:        []string{},
		User:       "0",
		WorkingDir: "/",
		Env:        env,
		Labels:     labels,
	}
}

// host is what the container gets from the machine.
func (d *containerDaemon) host() *container.HostConfig {
	return &container.HostConfig{
		NetworkMode: container.NetworkMode(d.network),
		Resources:   d.options.Managed.Container.Resources,
		Tmpfs:       map[string]string{"/run": "mode=755"},
		Mounts:      []mount.Mount{{Type: mount.TypeVolume, Target: stateDir}}, // without a name it is removed with the container
	}
}

// privileged gives all privileges. An engine with user namespaces refuses them to containers in
// such a namespace.
func privileged(h *container.HostConfig) {
	h.Privileged = true
	h.UsernsMode = "host"
}

// capable gives what buildkitd and runc need: the capabilities to mount and to make namespaces
// and their networks, an unmasked /proc for those of their own containers, and control groups.
func capable(h *container.HostConfig) {
	h.CapAdd = []string{"SYS_ADMIN", "NET_ADMIN"}
	h.SecurityOpt = []string{"seccomp=unconfined", "apparmor=unconfined"}
	h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeBind, Source: "/sys/fs/cgroup", Target: "/sys/fs/cgroup"})
}

// putFiles copies the configuration, and the files that it names, into a container that does
// not run yet. The files keep their paths.
func (d *containerDaemon) putFiles(ctx context.Context) error {
	files := archive(d.options.Managed)
	defer files.Close()
	_, err := d.engine.CopyToContainer(ctx, d.id, engine.CopyToContainerOptions{DestinationPath: "/", Content: files})
	return err
}
