package solve

import (
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/timing"
)

// part is a vertex that has ended. The exporter's second part is the push. Vertices that load and
// import have a row each, as long as they are few: sources, which are as many as the stages, are steps.
func (w *watch) part(d digest.Digest, v *vertex, ended time.Time) timing.Part {
	p := timing.Part{Name: v.name, Kind: timing.Step, ID: d.String(), Start: v.started, End: ended}
	for _, prefix := range []string{"[internal] load ", importing, "exporting "} {
		if strings.HasPrefix(v.name, prefix) {
			p.Kind = timing.Phase
		}
	}
	if d == w.exporter && w.begins > 1 {
		p.Name = "push"
	}
	for _, input := range v.inputs {
		p.After = append(p.After, input.String())
	}
	return p
}

// arrived compares the clocks: an event arrives after it has happened.
func (w *watch) arrived(v *client.Vertex) {
	for _, at := range []*time.Time{v.Started, v.Completed} {
		if at == nil {
			continue
		}
		if late := time.Since(*at); w.events == 0 || late < w.behind {
			w.behind = late
		}
		w.events++
	}
}

// parts are the vertices that have ended, by this machine's clock, with which a managed builder
// measures too. That of a remote one is taken to be as far off as its fastest event says.
func (w *watch) parts(managed bool) []timing.Part {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []timing.Part
	for _, p := range w.ends {
		if !managed {
			p.Start, p.End = p.Start.Add(w.behind), p.End.Add(w.behind)
		}
		all = append(all, p)
	}
	return all
}

// destination names the first cache of one destination: " b-main to local /var/cache/app", and without
// the scope for a line of cache-to.
func destination(results []Export) string {
	to := " to " + results[0].Cache
	if name := results[0].Name; name != "" {
		to = " " + name + to
	}
	return to
}
