package step

import (
	"github.com/warmlayer/warmlayer/internal/builder"
)

// checkPlatforms finds steps that are to run on a platform for which the builder has no
// emulator. That is an error only where the Dockerfile has such a step: one that cross-compiles
// needs no emulator. Where the Dockerfile cannot be judged it is a warning.
func (r Run) checkPlatforms(b Build, on *builder.Builder) (warnings []string, err error) {
	lacks := on.Lacks(b.Inputs.Platforms)
	if len(lacks) == 0 || r.asks() {
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

// runsOnTarget tells whether a step of the Dockerfile runs on the target's platform, as far as
// that is known.
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
