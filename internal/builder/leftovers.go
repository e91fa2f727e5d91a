package builder

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	engine "github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/engineapi"
)

// Labels of the containers of managed builders.
const (
	labelBuilder = "warmlayer.builder" // "true"
	labelJob     = "warmlayer.job"     // Job.ID
	labelRunner  = "warmlayer.runner"  // Job.Runner
	labelOwner   = "warmlayer.owner"   // the process that created it; "": it belongs to a job
)

const (
	// longestJob is how long any job may last: GitHub's limit for a job on a self-hosted runner.
	longestJob = 5 * 24 * time.Hour
	// longestStart is how long a container may run before the process that created it connects.
	longestStart = 2 * answerTimeout
)

// RemoveJob removes the containers that a job's steps have shared. Without an engine there are
// none, and it does nothing.
func RemoveJob(ctx context.Context, e engineapi.Place, job string) error {
	c, _, err := e.Client("")
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Ping(ctx, engine.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return nil
	}
	found, err := c.ContainerList(ctx, engine.ContainerListOptions{
		All: true, Filters: make(engine.Filters).Add("label", labelBuilder+"=true", labelJob+"="+job),
	})
	if err != nil {
		return err
	}
	for _, one := range found.Items {
		err = errors.Join(err, removeContainer(ctx, c, one.ID))
	}
	return err
}

// removeContainer ends a container and removes it with its volume. It succeeds when the container
// is already gone or being removed.
func removeContainer(ctx context.Context, c *engine.Client, id string) error {
	_, err := c.ContainerRemove(ctx, id, engine.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return err
}

// sweepContainers removes the containers that killed processes have left. A later sweep tries
// those again that cannot be removed now.
func sweepContainers(ctx context.Context, c *engine.Client, current Job) {
	found, err := c.ContainerList(ctx, engine.ContainerListOptions{
		All: true, Filters: make(engine.Filters).Add("label", labelBuilder+"=true"),
	})
	if err != nil {
		return
	}
	for _, one := range found.Items {
		inspected, err := c.ContainerInspect(ctx, one.ID, engine.ContainerInspectOptions{})
		if err == nil && isLeftover(inspected.Container, current, time.Now(), containerEnded(ctx, c)) {
			_ = removeContainer(ctx, c, one.ID)
		}
	}
}

// containerEnded returns a function that tells whether a container has certainly ended.
func containerEnded(ctx context.Context, c *engine.Client) func(id string) bool {
	return func(id string) bool {
		found, err := c.ContainerInspect(ctx, id, engine.ContainerInspectOptions{})
		return errdefs.IsNotFound(err) || err == nil && found.Container.State != nil && !found.Container.State.Running
	}
}

// isLeftover tells whether no process will use the container of a managed builder again. That is so
// when its owner has ended. Where that is not known: each process that uses one has a program
// running in it. Without such a program a container is a leftover when it belongs to no job, when the
// runner of its job runs another job now, when it shares the network of a container that has ended
// (act's, in which the job ran), or when it is older than any job.
func isLeftover(c container.InspectResponse, current Job, now time.Time, ended func(container string) bool) bool {
	if c.Config == nil || c.State == nil {
		return false
	}
	if hasEnded(c.Config.Labels[labelOwner]) {
		return true
	}
	if len(c.ExecIDs) > 0 {
		return false
	}
	since := c.State.StartedAt
	if !c.State.Running {
		since = c.Created // its start may follow
	}
	began, err := time.Parse(time.RFC3339Nano, since)
	idle := now.Sub(began)
	if err != nil || idle < longestStart {
		return false
	}
	job, runner := c.Config.Labels[labelJob], c.Config.Labels[labelRunner]
	if job == "" || runner != "" && runner == current.Runner && job != current.ID || idle > longestJob {
		return true
	}
	return c.HostConfig != nil && c.HostConfig.NetworkMode.IsContainer() && ended(c.HostConfig.NetworkMode.ConnectedContainer())
}
