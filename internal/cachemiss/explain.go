package cachemiss

import (
	"fmt"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
)

// Request asks why steps of a build are not cached.
type Request struct {
	Now Memory
	// Missed tells whether a step was not cached; nil: the build has not run, and the first step of each stage that
	// no scope remembers is taken.
	Missed func(digest.Digest) bool
	// NoCache tells whether a step of a stage was to run anyway; nil: none was.
	NoCache func(stage string) bool
	Scopes  []Scope // in the order in which they are read: the nearest first
	Fault   string  // why caches were left out of the build; "": none was
}

// Scope is a scope that a build reads, with what it remembers.
type Scope struct {
	Name   string
	Absent bool
	Err    error    // why it could not be read; nil: it could
	Lost   bool     // layers of it were lost from the store
	Builds []Memory // the newest first; none where it remembers nothing
}

// Reason is why the first step that missed in a stage did.
type Reason struct {
	Stage    string // "": the only one
	Platform string // where several are built
	Step     string // "COPY . ."
	Text     string // "2 files changed: go.sum, main.go"
	Scope    string // that the build was compared with; "": none
	Digest   digest.Digest
}

// String is a sentence: "COPY . .: 2 files changed: go.sum, main.go".
func (r Reason) String() string { return r.Step + ": " + r.Text }

// Explain gives a reason for each stage with a step that missed, in the order of the steps, but those last that
// follow from others. Where there is nothing to compare with, one reason is for all stages. The texts of
// memories are in it, and may be anything.
func Explain(r Request) []Reason {
	e := explanation{Request: r}
	for _, scope := range r.Scopes {
		var pairs []*pair
		for _, b := range scope.Builds {
			pairs = append(pairs, newPair(r.Now, b))
		}
		e.pairs = append(e.pairs, pairs)
	}
	e.first, e.now = map[stage]int{}, index(r.Now)
	for _, in := range e.now.stages {
		if i, ok := e.firstMiss(in); ok {
			e.first[in] = i
		}
	}
	var out, after []Reason
	for _, in := range e.now.stages {
		i, ok := e.first[in]
		switch {
		case !ok:
		case e.follows(i):
			after = append(after, e.reason(in, i))
		default:
			out = append(out, e.reason(in, i))
		}
	}
	out = append(out, after...)
	return slices.CompactFunc(out, func(a, b Reason) bool { return a.Scope == "" && b.Scope == "" && a.Text == b.Text })
}

// follows tells whether a step stands on one of another stage that missed.
func (e *explanation) follows(i int) bool {
	met := map[int]bool{}
	ways := slices.Clone(e.Now.Steps[i].Inputs)
	for len(ways) > 0 {
		in := ways[len(ways)-1]
		ways = ways[:len(ways)-1]
		if met[in] {
			continue
		}
		met[in] = true
		s := e.Now.Steps[in]
		if first, ok := e.first[s.stage()]; ok && first == in && s.stage() != e.Now.Steps[i].stage() {
			return true
		}
		ways = append(ways, s.Inputs...)
	}
	return false
}

// explanation is an answer under way.
type explanation struct {
	Request
	now   indexed
	pairs [][]*pair // for each scope, one for each of its builds
	first map[stage]int
}

// firstMiss is the first step of a stage that missed, or that no scope remembers.
func (e *explanation) firstMiss(in stage) (int, bool) {
	for _, i := range e.now.of[in] {
		missed := !e.remembered(i) || e.NoCache != nil && e.NoCache(in.name)
		if e.Missed != nil {
			missed = e.Missed(e.Now.Steps[i].Digest)
		}
		if missed {
			return i, true
		}
	}
	return 0, false
}

func (e *explanation) remembered(i int) bool {
	return slices.ContainsFunc(e.pairs, func(all []*pair) bool {
		return slices.ContainsFunc(all, func(p *pair) bool { return p.has(i) })
	})
}

func (e *explanation) reason(in stage, i int) Reason {
	s := e.Now.Steps[i]
	out := Reason{Stage: in.name, Platform: in.platform, Step: instruction(s.Name), Digest: s.Digest}
	if e.NoCache != nil && e.NoCache(in.name) {
		out.Text = "no-cache asks for it"
		return out
	}
	n, p := e.nearest(in)
	if p == nil {
		out.Text = e.without(in)
		return out
	}
	out.Scope = e.Scopes[n].Name
	switch {
	case p.has(i):
		out.Text = e.lost(n, p, i)
	case p.undone[p.keys[i]]:
		out.Text = "the last build of " + e.Scopes[n].Name + " failed before it was done"
	default:
		out.Text = e.difference(p, i)
	}
	return out
}

// nearest is the first scope that remembers a stage, and the build of it that has the most of this build's steps.
func (e *explanation) nearest(in stage) (int, *pair) {
	for n, all := range e.pairs {
		var best *pair
		for _, p := range all {
			if len(p.former[in]) > 0 && (best == nil || p.hits > best.hits) {
				best = p
			}
		}
		if best != nil {
			return n, best
		}
	}
	return 0, nil
}

// without says why there is nothing to compare a stage with.
func (e *explanation) without(in stage) string {
	var parts []string
	for n, s := range e.Scopes {
		switch {
		case s.Err != nil:
			parts = append(parts, fmt.Sprintf("%s could not be read: %s", s.Name, short(s.Err.Error(), 100)))
		case s.Absent && n == 0:
			parts = append(parts, "never built in this scope")
		case s.Absent:
		case len(s.Builds) == 0:
			parts = append(parts, s.Name+" remembers no build: another version or another program has written it")
		default:
			parts = append(parts, s.Name+" was built "+elsewhere(s.Builds, in))
		}
	}
	if e.Fault != "" {
		parts = append(parts, "caches were left out: "+short(e.Fault, 100))
	}
	if len(parts) == 0 {
		return "no scope is read"
	}
	return strings.Join(parts, "; ")
}

// elsewhere says how builds without a stage were built.
func elsewhere(builds []Memory, in stage) string {
	for _, b := range builds {
		for _, other := range index(b).stages {
			switch {
			case other.name == in.name && other.platform != in.platform:
				return "for another platform"
			case other.platform == in.platform && in.name != "" && !strings.HasPrefix(in.name, "stage-"):
				return fmt.Sprintf("without the stage %q", in.name)
			}
		}
	}
	return "with another Dockerfile"
}

// lost says why a step missed that is as it was.
func (e *explanation) lost(n int, p *pair, i int) string {
	s := p.now.Steps[i]
	for _, in := range s.Inputs {
		if f, ok := p.now.Steps[in].fact(factGit); ok {
			return "what " + quoted(f.Text) + " has is another commit now, or its layer was lost from the store"
		}
		if f, ok := p.now.Steps[in].fact(factURL); ok {
			return "the file at " + quoted(f.Text) + " is another one now, or its layer was lost from the store"
		}
	}
	switch {
	case e.Scopes[n].Lost:
		return "its layer was lost from the store"
	case e.Fault != "":
		return "caches were left out: " + short(e.Fault, 100)
	}
	return "it is as in " + e.Scopes[n].Name + ", which no longer has its layer"
}

// unknown is said of a step that differs in nothing that is known of it.
const unknown = "what it stands on changed"

// difference says what differs in a step that the build before did not have.
func (e *explanation) difference(p *pair, i int) string {
	in := p.now.Steps[i].stage()
	now, before := p.now.of[in], p.former[in]
	at := slices.Index(now, i)
	if at < 0 {
		return unknown
	}
	if j, ok := p.same(i, before, at); ok {
		if text := e.inputs(p, i, j); text != "" {
			return text
		}
		return unknown
	}
	if text := p.base(now[0], before); text != "" {
		return text
	}
	if at < len(before) && !p.selves(in)[p.before.selves[before[at]]] {
		return p.facts(i, before[at])
	}
	return "this step is new"
}

// base says how the image differs that a stage begins with; "": it does not, or it is none.
func (p *pair) base(first int, before []int) string {
	if len(before) == 0 || len(p.now.Steps[first].Inputs) == 0 || len(p.before.Steps[before[0]].Inputs) == 0 {
		return ""
	}
	a, b := p.now.Steps[first].Inputs[0], p.before.Steps[before[0]].Inputs[0]
	now, was := p.now.Steps[a], p.before.Steps[b]
	if now.Kind != Source || was.Kind != Source || p.now.selves[a] == p.before.selves[b] || now.local() != "" || was.local() != "" {
		return ""
	}
	return source(now, was)
}

// same is the step before, among some, that is as a step without its inputs: the one at the nearest position.
func (p *pair) same(i int, before []int, at int) (int, bool) {
	best := -1
	for n, j := range before {
		if p.before.selves[j] == p.now.selves[i] && (best < 0 || abs(n-at) < abs(best-at)) {
			best = n
		}
	}
	if best < 0 {
		return 0, false
	}
	return before[best], true
}

func abs(n int) int { return max(n, -n) }
