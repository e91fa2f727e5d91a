package step

import (
	"context"
	"strings"

	"github.com/distribution/reference"

	"github.com/warmlayer/warmlayer/internal/explain"
)

// login says who is logged in to a repository, by the credentials that BuildKit gets for it.
func (r Run) login(ctx context.Context, repository string, push bool) explain.Login {
	named, err := reference.ParseNormalizedNamed(repository)
	if err != nil {
		return explain.Login{}
	}
	return explain.Login(r.registries.Login(ctx, reference.Domain(named), scopeOf(named, push)))
}

// scopeOf is what BuildKit asks of a registry for one repository, in the form of the distribution
// protocol: "repository:owner/app:pull,push".
func scopeOf(named reference.Named, push bool) string {
	actions := []string{"pull"}
	if push {
		actions = append(actions, "push")
	}
	return "repository:" + reference.Path(named) + ":" + strings.Join(actions, ",")
}
