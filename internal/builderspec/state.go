package builderspec

import (
	"os"
	"path/filepath"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// readState reads where the builder keeps what it has built. The builder must be a process: that of a container has the state of
// its container.
func (r *reader) readState() State {
	s := r.in.State
	if !r.forManaged("builder-state", s.Dir != "") {
		return State{}
	}
	if len(r.nodes) > 1 {
		r.report("builder-state", 0, "several builders cannot share one state", "use one builder")
		return State{}
	}
	if r.nodes[0].Address.Kind == Container {
		r.report("builder-state", 0, "a builder in a container keeps no state", "use builder: embedded or rootless")
		return State{}
	}
	path, problem := r.machine.File(s.Dir)
	if problem != nil {
		r.report("builder-state", 0, problem.What, problem.Hint)
		return State{}
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		r.report("builder-state", 0, syntax.Quoted(s.Dir)+" is not a directory", "name a directory that only this builder uses")
		return State{}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		r.report("builder-state", 0, "the working directory is not known", "write an absolute path")
		return State{}
	}
	s.Dir = abs
	return s
}
