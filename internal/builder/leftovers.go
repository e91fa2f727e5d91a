package builder

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	engine "github.com/moby/moby/client"
)

// Labels of the containers that are ours.
const (
	labelBuilder = "warmlayer.builder" // "true"
	labelJob     = "warmlayer.job"     // Job.ID
	labelRunner  = "warmlayer.runner"  // Job.Runner
)

const (
	// longestJob is how long a job may last that we know nothing of: GitHub's own limit for
	// one on a machine of the user's.
	longestJob = 5 * 24 * time.Hour
	// longestStart is how long a container may run before its maker has connected.
	longestStart = 2 * answerTimeout
)

// RemoveJob removes the containers that a job's steps have shared. Without an engine
// there are none.
func RemoveJob(ctx context.Context, e Engine, job string) error {
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

// removeContainer ends a container and removes it with its volume. One that is gone, or
// going, is none.
func removeContainer(ctx context.Context, c *engine.Client, id string) error {
	_, err := c.ContainerRemove(ctx, id, engine.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return err
}

// sweepContainers removes what runs that were killed have left. It is no more than
// housekeeping: what cannot be removed is left for another time.
func sweepContainers(ctx context.Context, c *engine.Client, mine Job) {
	found, err := c.ContainerList(ctx, engine.ContainerListOptions{
		All: true, Filters: make(engine.Filters).Add("label", labelBuilder+"=true"),
	})
	if err != nil {
		return
	}
	for _, one := range found.Items {
		inspected, err := c.ContainerInspect(ctx, one.ID, engine.ContainerInspectOptions{})
		if err == nil && isLeftover(inspected.Container, mine, time.Now()) {
			_ = removeContainer(ctx, c, one.ID)
		}
	}
}

// isLeftover tells whether a container of ours is one that nobody will use again. Who uses
// one has a program running in it. Nobody does where its maker was the only one to; where
// the runner that ran its job has another job now; or where no job lasts as long.
func isLeftover(c container.InspectResponse, mine Job, now time.Time) bool {
	if c.Config == nil || c.State == nil || len(c.ExecIDs) > 0 {
		return false
	}
	since := c.State.StartedAt
	if !c.State.Running {
		since = c.Created // it may be about to be started
	}
	began, err := time.Parse(time.RFC3339Nano, since)
	idle := now.Sub(began)
	if err != nil || idle < longestStart {
		return false
	}
	job, runner := c.Config.Labels[labelJob], c.Config.Labels[labelRunner]
	return job == "" || runner != "" && runner == mine.Runner && job != mine.ID || idle > longestJob
}
