package conformance

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// interoperates: each program reads the cache that the other one writes natively, with every step
// cached.
func (s suite) interoperates(t *testing.T) {
	plan := scope.Plan{Write: "b-main", Read: []scope.Source{{Name: "b-main"}}}
	t.Run("buildctl reads", func(t *testing.T) {
		t.Parallel()
		c, app := s.h.open(t), testkit.App(t)
		s.run(t, c, app, "main").Build(t)
		said := testkit.Buildctl(t, testkit.StartBuildkitd(t), app, entries("--import-cache", c.cache().Backend(t).Imports(plan))...)
		if ran := executed(said); len(ran) > 0 {
			t.Errorf("buildctl ran %v:\n%s", ran, said)
		}
	})
	t.Run("the program reads", func(t *testing.T) {
		t.Parallel()
		c, app := s.h.open(t), testkit.App(t)
		args := entries("--export-cache", c.cache().Backend(t).Exports(plan))
		if s.h.inline {
			args = append(args, "--output", "type=image,push=true,name="+c.image+":cache-b-main")
		}
		if said := testkit.Buildctl(t, testkit.StartBuildkitd(t), app, args...); len(executed(said)) == 0 {
			t.Errorf("a cold build ran no step:\n%s", said)
		}
		allCached(t, s.run(t, c, app, "main").Build(t))
	})
}

var stepLine = regexp.MustCompile(`(?m)^#(\d+) (\[[a-z].*\d+/\d+\] .*)$`)

// executed are the steps that BuildKit's plain progress does not mark as cached.
func executed(said string) []string {
	var ran []string
	for _, m := range stepLine.FindAllStringSubmatch(said, -1) {
		// The layers of a step that is loaded may be extracted in it.
		loaded := strings.Contains(said, "\n#"+m[1]+" CACHED") || strings.Contains(said, "\n#"+m[1]+" extracting ")
		if !loaded && !slices.Contains(ran, m[2]) {
			ran = append(ran, m[2])
		}
	}
	return ran
}

// entries are BuildKit's native entries as arguments of buildctl.
func entries(flag string, list []client.CacheOptionsEntry) []string {
	var args []string
	for _, e := range list {
		text := "type=" + e.Type
		for k, v := range e.Attrs {
			text += "," + k + "=" + v
		}
		args = append(args, flag, text)
	}
	return args
}
