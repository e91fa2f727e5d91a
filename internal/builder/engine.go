package builder

import (
	"cmp"
	"context"
	"errors"

	engine "github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/engineapi"
)

// dialEngine returns a client of an engine that answers, that of a named docker context where there is
// a name, and the engine's address. When none answers it returns an *Error that begins with the
// purpose, "" or such as "find container x: ".
func dialEngine(ctx context.Context, e engineapi.Place, name, purpose string) (*engine.Client, string, error) {
	c, host, err := e.Client(name)
	if err == nil {
		_, err = c.Ping(ctx, engine.PingOptions{NegotiateAPIVersion: true})
	}
	if err == nil {
		return c, host, nil
	}
	if c != nil {
		err = errors.Join(err, c.Close())
	}
	return nil, "", &Error{What: purpose + "no container engine answers at " + builderspec.Redacted(cmp.Or(host, "DOCKER_HOST")), Hint: hintEngine, Err: err}
}
