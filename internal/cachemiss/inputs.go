package cachemiss

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// inputs says in which input two steps differ that are else the same; "": in none that is known.
func (e *explanation) inputs(p *pair, i, j int) string {
	now, before := p.now.Steps[i], p.before.Steps[j]
	if text := p.files(i, j); text != "" {
		return text
	}
	for n := range min(len(now.Inputs), len(before.Inputs)) {
		a, b := now.Inputs[n], before.Inputs[n]
		if p.keys[a] == p.had[b] || p.now.Steps[a].local() != "" {
			continue
		}
		return e.input(p, i, a, b)
	}
	return ""
}

// input says how an input of a step differs.
func (e *explanation) input(p *pair, i, a, b int) string {
	now, before := p.now.Steps[a], p.before.Steps[b]
	switch {
	case now.Kind == Source && before.Kind == Source:
		return source(now, before)
	case now.Kind == Source || before.Kind == Source:
		if !p.has(a) || now.Kind == Source {
			return fmt.Sprintf("it stands on %s, and stood on %s", standing(now), standing(before))
		}
		return "a step before it is new: " + instruction(now.Name)
	case strings.HasPrefix(now.Name, "["): // of the frontend's own, such as a heredoc
		return p.facts(a, b)
	case now.stage() != p.now.Steps[i].stage():
		return "what it takes from " + stageName(now) + " changed"
	case !p.has(a):
		first := p.first(a)
		return "a step before it changed: " + instruction(p.now.Steps[first].Name) + ": " + e.difference(p, first)
	case p.selves(now.stage())[p.before.selves[b]]:
		return "the steps before it are in another order"
	}
	return "a step before it is gone: " + instruction(before.Name)
}

// first is the first step of a stage, from one backwards, that the build before did not have.
func (p *pair) first(i int) int {
	for {
		s := p.now.Steps[i]
		n := slices.IndexFunc(s.Inputs, func(in int) bool {
			before := p.now.Steps[in]
			return before.cacheable() && before.stage() == s.stage() && !p.has(in)
		})
		if n < 0 {
			return i
		}
		i = s.Inputs[n]
	}
}

// stageName names the stage of a step.
func stageName(s Step) string {
	if s.Stage == "" {
		return "another step"
	}
	return "stage " + short(s.Stage, longestName)
}

// standing names what a step stands on.
func standing(s Step) string {
	if f, ok := s.fact(factImage); ok {
		return "the image " + quoted(f.Text)
	}
	return quoted(s.Name)
}

// source says how two sources differ.
func source(now, before Step) string {
	diff := func(key string) (was, is string, differs bool) {
		a, _ := before.fact(key)
		b, _ := now.fact(key)
		return a.Text, b.Text, a.Hash != b.Hash
	}
	if was, is, differs := diff(factImage); differs {
		return fmt.Sprintf("base image: %s → %s", quoted(was), quoted(is))
	}
	image, _ := now.fact(factImage)
	if was, is, differs := diff(factDigest); differs {
		return fmt.Sprintf("base image %s moved: %s → %s", quoted(image.Text), abbreviated(was), abbreviated(is))
	}
	for _, one := range [][2]string{{factPlatform, "platform"}, {factGit, "Git source"}, {factURL, "address"}, {factChecksum, "checksum"}} {
		if was, is, differs := diff(one[0]); differs {
			return fmt.Sprintf("%s: %s → %s", one[1], quoted(was), quoted(is))
		}
	}
	return unknown
}

// files says how the files differ that two steps take from the directories that are sent; "": they do not.
func (p *pair) files(i, j int) string {
	var d treeDiff
	for n, u := range p.now.Steps[i].Uses {
		if n >= len(p.before.Steps[j].Uses) || p.now.Steps[u.Input].local() == "" {
			continue
		}
		was := p.before.Steps[j].Uses[n]
		d.compare(u.selected(p.now.Steps[u.Input].Files), was.selected(p.before.Steps[was.Input].Files))
		a, _ := p.now.Steps[u.Input].fact(factIgnored)
		b, _ := p.before.Steps[was.Input].fact(factIgnored)
		d.ignored = d.ignored || a.Hash != b.Hash
	}
	return d.String()
}

// treeDiff is how two sets of files differ.
type treeDiff struct {
	content, mode, added, removed []string
	was, is                       map[string]fs.FileMode // of the files whose modes differ
	all                           [2]map[string]fs.FileMode
	ignored                       bool // .dockerignore differs
}

func (d *treeDiff) compare(now, before map[string]Entry) {
	if d.was == nil {
		d.was, d.is = map[string]fs.FileMode{}, map[string]fs.FileMode{}
		d.all = [2]map[string]fs.FileMode{{}, {}}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		a := now[name]
		b, had := before[name]
		d.all[1][name] = a.Mode
		switch {
		case !had && !a.Mode.IsDir() || !had && a.whole():
			d.added = append(d.added, name)
		case !had: // a directory, which is told by its files
		case a.Hash != b.Hash || a.Mode.Type() != b.Mode.Type():
			d.content = append(d.content, name)
		case a.Mode != b.Mode:
			d.mode = append(d.mode, name)
			d.was[name], d.is[name] = b.Mode, a.Mode
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		b := before[name]
		d.all[0][name] = b.Mode
		if _, has := now[name]; !has && (!b.Mode.IsDir() || b.whole()) {
			d.removed = append(d.removed, name)
		}
	}
}

// String is "3 files changed: go.sum, main.go, +1 (mode only: run.sh)"; "" where nothing differs.
func (d *treeDiff) String() string {
	if len(d.content)+len(d.added)+len(d.removed) == 0 && len(d.mode) > 0 {
		if before, now := umask(d.all[0]), umask(d.all[1]); before != now && d.masked(before, now) {
			return fmt.Sprintf("mode of files differs: umask %04o against %04o", now, before)
		}
		return fmt.Sprintf("the mode of %s changed: %s", counted(len(d.mode), "file"), listed(d.mode))
	}
	var parts []string
	if n := len(d.content) + len(d.mode); n > 0 {
		said := counted(n, "file") + " changed: " + listed(slices.Concat(d.content, d.mode))
		if len(d.mode) > 0 {
			said += " (mode only: " + listed(d.mode) + ")"
		}
		parts = append(parts, said)
	}
	if len(d.added) > 0 {
		parts = append(parts, counted(len(d.added), "file")+" added: "+listed(d.added))
	}
	if len(d.removed) > 0 {
		parts = append(parts, counted(len(d.removed), "file")+" removed: "+listed(d.removed))
	}
	if len(parts) > 0 && d.ignored {
		parts = append(parts, ".dockerignore changed")
	}
	return strings.Join(parts, "; ")
}

// umask is the mask under which all files of a set may have been made.
func umask(modes map[string]fs.FileMode) fs.FileMode {
	mask := fs.FileMode(0o077)
	for _, m := range modes {
		if m.IsRegular() || m.IsDir() {
			mask &^= m.Perm()
		}
	}
	for _, m := range modes { // a bit that no kind of file has is no sign of a mask
		if m.IsDir() {
			return mask
		}
	}
	return mask &^ 0o011
}

// masked tells whether two masks explain all modes that differ.
func (d *treeDiff) masked(before, now fs.FileMode) bool {
	for name, is := range d.is {
		if is.Perm()&^(before|now) != d.was[name].Perm()&^(before|now) {
			return false
		}
	}
	return true
}
