package inputs

import (
	"path"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Mounts are what the container that this process runs in has of its machine's files. A
// step of a CI names files as the machine has them, and only the container's names of
// them lead there. The zero value is for a process in no container.
type Mounts struct {
	List      []Mount
	Ephemeral bool // the container ends with this process, and files outside its mounts are lost
}

// Mount is a directory or a file.
type Mount struct {
	Source string // its path on the machine
	Target string // its path in the container
}

// Here is the path in the container of what is at a path on the machine. A path that leads
// into a mount already, and a relative one, stay as they are. It reports whether the path
// leads anywhere that lasts.
func (m Mounts) Here(name string) (string, bool) {
	if !path.IsAbs(name) {
		return name, true
	}
	if _, _, ok := m.longest(name, func(m Mount) string { return m.Target }); ok {
		return name, true
	}
	if in, rest, ok := m.longest(name, func(m Mount) string { return m.Source }); ok {
		return path.Join(in.Target, rest), true
	}
	return name, !m.Ephemeral
}

// longest finds the mount that a path is in by one of its two paths, and the rest.
func (m Mounts) longest(name string, by func(Mount) string) (found Mount, rest string, ok bool) {
	best := -1
	for _, one := range m.List {
		base := path.Clean(by(one))
		after, in := strings.CutPrefix(path.Clean(name), strings.TrimSuffix(base, "/"))
		if by(one) == "" || !in || after != "" && after[0] != '/' || len(base) <= best {
			continue
		}
		found, rest, best = one, after, len(base)
	}
	return found, rest, best >= 0
}

// place is where a file of the user's is, in the container that this process runs in.
func (p *parser) place(name string) (string, *syntax.Problem) {
	found, ok := p.mounts.Here(name)
	if !ok {
		return name, &syntax.Problem{What: syntax.Quoted(name) + " is not mounted into this container", Hint: hintMounts}
	}
	return found, nil
}

// here is place, and reports a file that is nowhere.
func (p *parser) here(input string, line int, name string) (string, bool) {
	found, problem := p.place(name)
	if problem != nil {
		p.report(input, line, problem.What, problem.Hint)
	}
	return found, problem == nil
}

const hintMounts = "use a path in the working directory or, on GitHub, in runner.temp, or mount it"

// placed gives the dest of an output that has files the path that it has here.
func (p *parser) placed(input string, line int, kind string, attrs map[string]string) {
	if kind != "local" && kind != "oci" && kind != "docker" && kind != "tar" {
		return
	}
	if name := attrs["dest"]; name != "" {
		attrs["dest"], _ = p.here(input, line, name)
	}
}
