package cachemiss

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// pair compares a build with one that a scope remembers.
type pair struct {
	now, before indexed
	keys, had   []string        // of the steps: what their cache keys depend on
	known       map[string]int  // the steps of before that were done, by key
	undone      map[string]bool // the keys of the others
	hits        int             // steps that the build before had
	former      map[stage][]int
}

// indexed is a memory whose steps can be found.
type indexed struct {
	Memory
	selves []string        // of the steps; see [Step.self]
	of     map[stage][]int // the steps of a stage that can be cached, in order
	stages []stage         // with such steps, in order
}

// stage names the steps of one stage for one platform.
type stage struct{ name, platform string }

func (s Step) stage() stage { return stage{s.Stage, s.Platform} }

// cacheable tells whether a step can be cached, and is the user's.
func (s Step) cacheable() bool { return s.Kind != Source && !strings.HasPrefix(s.Name, "[") }

func index(m Memory) indexed {
	x := indexed{Memory: m, selves: make([]string, len(m.Steps)), of: map[stage][]int{}}
	for i, s := range m.Steps {
		x.selves[i] = s.self()
		if !s.cacheable() {
			continue
		}
		if x.of[s.stage()] == nil {
			x.stages = append(x.stages, s.stage())
		}
		x.of[s.stage()] = append(x.of[s.stage()], i)
	}
	return x
}

func newPair(now, before Memory) *pair {
	now, before = align(now, before)
	p := &pair{now: index(now), before: index(before), known: map[string]int{}, undone: map[string]bool{}, former: map[stage][]int{}}
	p.keys, p.had = p.now.keys(), p.before.keys()
	for i, k := range p.had {
		if before.Steps[i].Undone {
			p.undone[k] = true
		} else {
			p.known[k] = i
		}
	}
	for i, s := range now.Steps {
		if s.Kind != Source && p.has(i) {
			p.hits++
		}
	}
	for _, in := range p.now.stages {
		p.former[in] = p.stageBefore(in)
	}
	return p
}

// align makes the trees of sources of the same name comparable: with the same directories as a whole, and with
// what is not known of one taken from the other.
func align(now, before Memory) (alignedNow, alignedBefore Memory) {
	now.Steps, before.Steps = slices.Clone(now.Steps), slices.Clone(before.Steps)
	for i := range now.Steps {
		a := &now.Steps[i]
		if a.local() == "" {
			continue
		}
		for j := range before.Steps {
			if b := &before.Steps[j]; a.local() == b.local() {
				a.Files = fill(a.Files.like(b.Files), b.Files)
				b.Files = fill(b.Files, a.Files)
				break
			}
		}
	}
	return now, before
}

// fill takes the hashes that a tree lacks from another one.
func fill(t, other Tree) Tree {
	hashes := map[string]string{}
	for _, e := range other {
		hashes[e.Path] = e.Hash
	}
	t = slices.Clone(t)
	for i, e := range t {
		if e.Hash == "" && e.Mode.IsRegular() {
			t[i].Hash = hashes[e.Path]
		}
	}
	return t
}

// local is the name of the directory that a source sends; "": it is none.
func (s Step) local() string {
	if f, ok := s.fact(factLocal); ok {
		return f.Text
	}
	return ""
}

func (s Step) fact(key string) (Fact, bool) {
	i := slices.IndexFunc(s.Facts, func(f Fact) bool { return f.Key == key })
	if i < 0 {
		return Fact{}, false
	}
	return s.Facts[i], true
}

// self is what a step is, without its inputs.
func (s Step) self() string {
	var b strings.Builder
	b.WriteString(string(s.Kind))
	for _, f := range s.Facts {
		fmt.Fprintf(&b, "\n%q %s", f.Key, f.Hash)
	}
	return Hash(b.String())
}

// keys are hashes of what the steps and all that they stand on are made of.
func (x indexed) keys() []string {
	all := make([]string, len(x.Steps))
	for i, s := range x.Steps {
		var b strings.Builder
		b.WriteString(x.selves[i])
		for n, in := range s.Inputs {
			if x.Steps[in].local() == "" {
				fmt.Fprintf(&b, "\n%d %s", n, all[in])
			}
		}
		for _, u := range s.Uses {
			if x.Steps[u.Input].local() == "" {
				fmt.Fprintf(&b, "\n%s", u.Src)
				continue
			}
			files := u.selected(x.Steps[u.Input].Files)
			for _, name := range slices.Sorted(maps.Keys(files)) {
				fmt.Fprintf(&b, "\n%q %o %s", name, uint32(files[name].Mode), files[name].Hash)
			}
		}
		all[i] = Hash(b.String())
	}
	return all
}

// has tells whether the build before had a step as it is now.
func (p *pair) has(i int) bool {
	_, ok := p.known[p.keys[i]]
	return ok
}

// stageBefore are the steps of the stage that a stage was before: the one of its name or, where the stage has another
// name now, as unnamed stages have when one is added before them, the one for the same platform that has the most of its
// instructions. None: there was no such stage.
func (p *pair) stageBefore(in stage) []int {
	if same := p.before.of[in]; len(same) > 0 {
		return same
	}
	now := p.selves(in)
	var best []int
	most := 0
	for _, other := range p.before.stages {
		if other.platform != in.platform || len(p.now.of[other]) > 0 {
			continue // another stage of this build
		}
		common := 0
		for _, j := range p.before.of[other] {
			if now[p.before.selves[j]] {
				common++
			}
		}
		if common > most {
			best, most = p.before.of[other], common
		}
	}
	return best
}

// selves are the steps of a stage now, without their inputs.
func (p *pair) selves(in stage) map[string]bool {
	all := map[string]bool{}
	for _, i := range p.now.of[in] {
		all[p.now.selves[i]] = true
	}
	return all
}
