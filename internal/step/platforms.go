package step

import (
	"github.com/warmlayer/warmlayer/internal/builder"
)

// checkPlatforms returns an error when a step of the Dockerfile runs on a platform for which the
// builder has no emulator, and a warning when that is unknown. A Dockerfile that cross-compiles
// runs its steps on the builder's own platform.
func (r Run) checkPlatforms(b Build, on *builder.Builder) (warnings []string, err error) {
	lacks := on.Lacks(b.Inputs.Platforms)
	if len(lacks) == 0 || b.asks() {
		return nil, nil
	}
	missing := on.NoEmulator(lacks)
	switch runs, known := b.runsOnTarget(); {
	case runs:
		return nil, missing
	case !known:
		return []string{missing.What + "; if the build has such steps: " + missing.Hint}, nil
	}
	return nil, nil
}

// runsOnTarget tells whether a step of the Dockerfile runs on the target platform. For a Dockerfile
// that cannot be read or has a custom frontend this is not known.
func (b Build) runsOnTarget() (runs, known bool) {
	dockerfile := b.Inputs.Dockerfile.Text
	if dockerfile == nil || b.Inputs.CustomFrontend() != "" {
		return false, false
	}
	var contexts []string
	for _, c := range b.Inputs.BuildContexts {
		contexts = append(contexts, c.Name)
	}
	return builder.RunsOnTarget(dockerfile, b.Inputs.Target, contexts)
}
