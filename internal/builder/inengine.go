package builder

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/engineapi"
)

// gatewayLabel is the label of a worker in Docker's engine with the address by which steps reach the
// engine's machine (docker buildx v0.37.0, driver/docker/driver.go).
const gatewayLabel = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"

// automatic is the builder of [builderspec.Auto]: the first kind that starts. The BuildKit inside the
// engine is the last of them, because it keeps caches with BuildKit's own backends, and what others
// have built.
func automatic(ctx context.Context, o Options) (*Builder, error) {
	var refused error
	if needsContainer() {
		b, err := contain(ctx, o)
		if err == nil || ctx.Err() != nil {
			return b, err
		}
		refused = err
	}
	b, err := embed(ctx, o, os.Geteuid() != 0)
	if err == nil || ctx.Err() != nil || !o.mayShare() {
		return b, err // which names the other ways to get one
	}
	b, other := inEngine(ctx, o)
	if other != nil {
		return nil, err
	}
	why, _, _ := strings.Cut(cmp.Or(refused, err).Error(), "\n")
	b.Instead = strings.TrimPrefix(why, "builder: ")
	return b, nil
}

// mayShare tells whether the BuildKit inside the engine may stand in for a managed builder, whose
// settings it does not have.
func (o Options) mayShare() bool {
	m := o.Managed
	return o.Shared && len(m.Flags)+len(m.Env) == 0 && m.Config == ""
}

// inEngine returns the BuildKit inside the container engine.
func inEngine(ctx context.Context, o Options) (_ *Builder, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	at, host, err := dialEngine(ctx, o.Engine, "", "")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, at.Close())
		}
	}()
	engine, err := engineapi.Ask(ctx, at)
	if err != nil {
		return nil, err
	}
	c, err := engine.BuildKit(ctx)
	if err != nil {
		return nil, err
	}
	workers, err := answering(ctx, c)
	if err != nil {
		return nil, &Error{What: "no BuildKit answers inside the container engine at " + builderspec.Redacted(host), Hint: hintNotInEngine, Err: err}
	}
	b := &Builder{
		Client: c, Address: "engine", Inside: &engine, Platforms: workers[0].Platforms, HostGateway: workers[0].Labels[gatewayLabel],
		Network: Network{NetworkRemote, "the builder is the container engine's"}, underlying: at,
	}
	if o.Managed.State.Dir != "" {
		b.State = nothingKept + "the builder is the container engine's"
	}
	return b, nil
}
