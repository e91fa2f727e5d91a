package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/scope"
)

// checkPlatforms finds steps that are to run where nothing runs them. That is an error
// only when the Dockerfile tells: a cross-compiling one needs no emulator.
func (s *step) checkPlatforms(b *builder.Builder) error {
	lacks := b.Lacks(s.inputs.Platforms)
	if len(lacks) == 0 || s.asks() {
		return nil
	}
	var runs, known bool
	if !s.inputs.Remote && solve.StrangeFrontend(s.inputs) == "" {
		var contexts []string
		for _, c := range s.inputs.BuildContexts {
			contexts = append(contexts, c.Key)
		}
		file := s.inputs.File
		if file == "" {
			file = filepath.Join(s.inputs.Context, "Dockerfile")
		}
		if dockerfile, err := os.ReadFile(file); err == nil {
			runs, known = builder.RunsOnTarget(dockerfile, s.inputs.Target, contexts)
		}
	}
	switch err := b.NoEmulator(lacks); {
	case runs:
		return err
	case !known:
		s.plan.Warnings = append(s.plan.Warnings, "should "+err.What+": "+err.Hint)
	}
	return nil
}

// guard leaves out the caches whose credentials BuildKit would hand to a frontend that
// a stranger has chosen: on a builder that runs already the entries are native ones, and
// those of cache-from and cache-to are native everywhere.
func (s *step) guard() {
	if s.plan.Facts.Trusted {
		return
	}
	frontend := solve.StrangeFrontend(s.inputs)
	if frontend == "" {
		return
	}
	leave := func(place string) {
		s.plan.Warnings = append(s.plan.Warnings, fmt.Sprintf(
			"cache %s is left out: %s would see its credentials, and this run is not trusted (%s)", place, frontend, s.plan.Facts.Doubt))
	}
	exposed := func(c inputs.Cache) bool {
		carries := c.Credentials() || c.Type == "gha" // which gets the runner's token
		if carries {
			leave(backends.Label(client.CacheOptionsEntry{Type: c.Type, Attrs: c.Attrs}))
		}
		return carries
	}
	s.inputs.CacheFrom = slices.DeleteFunc(s.inputs.CacheFrom, exposed)
	s.inputs.CacheTo = slices.DeleteFunc(s.inputs.CacheTo, exposed)
	if s.builder().Remote() == "" {
		return
	}
	s.caches = slices.DeleteFunc(s.caches, func(c backends.Backend) bool {
		entries := c.Imports(scope.Plan{Read: []scope.Source{{Name: "any"}}})
		if len(entries) == 0 || !(inputs.Cache{Attrs: entries[0].Attrs}).Credentials() {
			return false
		}
		leave(c.String())
		return true
	})
}
