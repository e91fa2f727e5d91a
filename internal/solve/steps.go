package solve

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// Step is one instruction of the Dockerfile that the build needed.
type Step struct {
	Name    string        // as BuildKit shows it: "[build 2/4] RUN make"
	Digest  digest.Digest // of the instruction with its inputs, not of its result
	Cached  bool
	Seconds float64
	Error   string // "": it did not fail
}

// needed are the steps that began, in the order of their beginnings, but each after its inputs:
// BuildKit begins with the last step and, where that is cached, continues with the one before it.
func (w *watch) needed() []digest.Digest {
	began := slices.SortedStableFunc(slices.Values(w.order), func(a, b digest.Digest) int {
		return w.vertices[a].first.Compare(w.vertices[b].first)
	})
	var steps []digest.Digest
	met := map[digest.Digest]bool{}
	var meet func(digest.Digest)
	meet = func(d digest.Digest) {
		v := w.vertices[d]
		if v == nil || met[d] {
			return
		}
		met[d] = true
		for _, input := range v.inputs {
			meet(input)
		}
		if len(v.inputs) > 0 && !v.first.IsZero() {
			steps = append(steps, d)
		}
	}
	for _, d := range began {
		if !w.vertices[d].first.IsZero() {
			meet(d)
		}
	}
	return steps
}

func (w *watch) steps() []Step {
	w.mu.Lock()
	defer w.mu.Unlock()
	var steps []Step
	spared := w.spared()
	for _, d := range w.needed() {
		v := w.vertices[d]
		s := Step{Name: v.name, Digest: d, Cached: v.cached, Seconds: v.spent.Seconds(), Error: v.err}
		if spared[d] {
			s.Cached, s.Error = true, ""
		}
		steps = append(steps, s)
	}
	return steps
}

// spared are the cached steps that BuildKit began to load, and gave up when it found what follows them in a cache.
func (w *watch) spared() map[digest.Digest]bool {
	all := map[digest.Digest]bool{}
	for _, v := range w.vertices {
		for _, d := range v.inputs {
			if input := w.vertices[d]; v.cached && input != nil && !input.cached && strings.Contains(input.err, context.Canceled.Error()) {
				all[d] = true
			}
		}
	}
	return all
}

func (w *watch) allCached() bool {
	for _, s := range w.steps() {
		if !s.Cached {
			return false
		}
	}
	return true
}

// ran is a step that this solve executed although before had finished it. A step that both solves
// share is reported to both, with one start.
func (w *watch) ran(before *watch) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	spared := w.spared()
	for _, d := range w.needed() {
		v := w.vertices[d]
		if !v.cached && !spared[d] && !before.saw(d, v.started) {
			return v.name
		}
	}
	return ""
}

func (w *watch) saw(d digest.Digest, started time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.vertices[d]
	return v != nil && !v.first.IsZero() && !started.After(v.started)
}

// Executed implements [ahead.Steps]: it tells whether a step has run to its end, and was not cached.
func (w *watch) Executed(d digest.Digest) bool {
	return w.is(d, func(v *vertex) bool { return v.completed && !v.cached && v.err == "" })
}

// is tells whether something is known of a step.
func (w *watch) is(step digest.Digest, known func(*vertex) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.vertices[step]
	return v != nil && len(v.inputs) > 0 && known(v)
}

// unpacking tells whether layers of a step are being unpacked, and no other is still fetched.
func (v *vertex) unpacking() bool {
	for id := range v.open {
		if _, err := digest.Parse(id); err == nil {
			return false
		}
	}
	return len(v.open) > 0 && !v.completed
}

// said is the name of a step, and the last lines of its output.
func (w *watch) said(d digest.Digest) (name, log string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.vertices[d]
	if v == nil {
		return "", ""
	}
	log = string(v.log)
	if len(log) == maxLog {
		_, log, _ = strings.Cut(log, "\n") // part of a secret would not be redacted
	}
	return v.name, colours.ReplaceAllString(log, "")
}

// colours matches the control sequences of terminals (ECMA-48, 5.4).
var colours = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]`)
