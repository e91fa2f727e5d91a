package inputs

import (
	"path"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Mounts are the files of the machine that are mounted into the container of this process. A
// CI's step gives the paths that files have on the machine, and the process needs the paths
// that they have in the container. The zero value is for a process outside of containers.
type Mounts struct {
	List      []Mount
	Ephemeral bool // the container ends with this process, and files outside its mounts are lost
}

// Mount is a directory or a file.
type Mount struct {
	Source string // its path on the machine
	Target string // its path in the container
}

// Translate turns a path on the machine into the path in the container. A relative path, and
// one that is in a mount's target, stay as they are. It reports whether a file at that path
// outlives the container.
func (m Mounts) Translate(name string) (string, bool) {
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

// longest finds the innermost mount that has a path, where by is one of the mount's two paths,
// and the rest of the path.
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

// translate is the path, in the container of this process, of a file that the user names.
func (p *parser) translate(name string) (string, *syntax.Problem) {
	found, ok := p.mounts.Translate(name)
	if !ok {
		return name, &syntax.Problem{What: syntax.Quoted(name) + " is not mounted into this container", Hint: hintMounts}
	}
	return found, nil
}

// contained is translate, and reports the problem.
func (p *parser) contained(input string, line int, name string) (string, bool) {
	found, problem := p.translate(name)
	if problem != nil {
		p.report(input, line, problem.What, problem.Hint)
	}
	return found, problem == nil
}

const hintMounts = "use a path in the working directory or, on GitHub, in runner.temp, or mount it"

// containDest translates the dest of an output that writes files.
func (p *parser) containDest(input string, line int, kind string, attrs map[string]string) {
	if kind != "local" && kind != "oci" && kind != "docker" && kind != "tar" {
		return
	}
	if name := attrs["dest"]; name != "" {
		attrs["dest"], _ = p.contained(input, line, name)
	}
}
