package builder

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// RunsOnTarget tells whether a build of the Dockerfile up to the target stage ("": the last)
// runs a step on the platform that is built for. Steps after FROM --platform=$BUILDPLATFORM run
// on the builder's own. Contexts are the names of stages and images that a build context
// replaces. The answer is known for Dockerfiles that BuildKit v0.34.2 can parse.
func RunsOnTarget(dockerfile []byte, target string, contexts []string) (runs, known bool) {
	ast, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return false, false
	}
	all, _, err := instructions.Parse(ast.AST, nil)
	if err != nil || len(all) == 0 {
		return false, false
	}
	s := stages{all: all, replaced: contexts, seen: map[int]bool{}}
	last := len(all) - 1
	if target != "" {
		if last = s.find(target, len(all)); last < 0 {
			return false, false
		}
	}
	return s.runs(last), true
}

type stages struct {
	all      []instructions.Stage
	replaced []string
	seen     map[int]bool
}

// find is the index of the last stage of a name, or of the stage of a number, among the first n;
// -1 for none.
func (s stages) find(name string, n int) int {
	if slices.ContainsFunc(s.replaced, func(r string) bool { return strings.EqualFold(r, name) }) {
		return -1
	}
	for i, stage := range slices.Backward(s.all[:n]) {
		if strings.EqualFold(stage.Name, name) {
			return i
		}
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < n {
		return i
	}
	return -1
}

// runs tells whether stage i, or a stage that it is built from, runs a step on the target.
func (s stages) runs(i int) bool {
	if s.seen[i] {
		return false
	}
	s.seen[i] = true
	stage := s.all[i]
	onTarget := s.onTarget(i)
	from := []string{stage.BaseName}
	for _, c := range stage.Commands {
		switch c := c.(type) {
		case *instructions.RunCommand:
			if onTarget {
				return true
			}
			from = append(from, mounted(c)...)
		case *instructions.CopyCommand:
			from = append(from, c.From)
		}
	}
	return slices.ContainsFunc(from, func(name string) bool {
		source := s.find(name, i)
		return source >= 0 && s.runs(source)
	})
}

// onTarget tells whether stage i has the target's platform: the one that its FROM names, else
// that of the stage that it continues, else the target's. A literal platform is not the target's:
// its author knows where it can run.
func (s stages) onTarget(i int) bool {
	if platform := s.all[i].Platform; platform != "" {
		return strings.Contains(platform, "TARGET")
	}
	if base := s.find(s.all[i].BaseName, i); base >= 0 {
		return s.onTarget(base)
	}
	return true
}

// mounted are the stages that a RUN mounts.
func mounted(run *instructions.RunCommand) []string {
	var from []string
	verbatim := func(word string) (string, error) { return word, nil }
	if run.Expand(verbatim) != nil {
		return nil
	}
	for _, m := range instructions.GetMounts(run) {
		from = append(from, m.From)
	}
	return from
}
