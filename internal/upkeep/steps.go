package upkeep

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachegraph"
	"github.com/warmlayer/warmlayer/internal/cachemiss"
	"github.com/warmlayer/warmlayer/scope"
)

// Contents are the layers in the cache of one scope, by the steps that made them.
type Contents struct {
	Cache  string     `json:"cache"`
	Name   scope.Name `json:"name"`
	Bytes  int64      `json:"bytes"`            // of all layers
	Layers int        `json:"layers"`           // all of them
	Steps  []Step     `json:"steps"`            // those that have layers here, the largest first
	Others *Step      `json:"others,omitempty"` // layers of which no step is known, such as those of former builds; nil: there are none
}

// Step is a step and the layers that it made. A layer counts once, for the newest build that remembers it. So a step that made
// different layers in two builds is there twice.
type Step struct {
	Name     string    `json:"name,omitempty"` // the instruction: "RUN make"
	Stage    string    `json:"stage,omitempty"`
	Platform string    `json:"platform,omitempty"` // "linux/arm64" where the build had several platforms; else ""
	Bytes    int64     `json:"bytes"`              // of its layers, as they are stored
	Layers   int       `json:"layers"`
	Created  time.Time `json:"created,omitzero"` // the newest of its layers
}

// Inspect tells which steps made the layers of a cache, as far as its builds remember that. r.Err must be nil.
func Inspect(r backends.Reading) Contents {
	c := Contents{Cache: r.From.String(), Name: r.Name, Bytes: r.Manifest.Bytes(), Layers: len(r.Manifest.Layers), Steps: []Step{}}
	left := map[string]ocispecs.Descriptor{}
	for _, l := range r.Manifest.Layers {
		left[cachemiss.LayerID(l.Digest)] = l
	}
	builds := cachegraph.Builds(r.Config)
	slices.SortStableFunc(builds, func(a, b cachegraph.Build) int { return b.Time.Compare(a.Time) })
	for _, b := range builds {
		m, err := cachemiss.Parse(b.Memory)
		if err != nil {
			continue
		}
		for _, s := range m.Steps {
			if layers := claim(left, s.Layers); len(layers) > 0 {
				c.Steps = append(c.Steps, made(s, layers))
			}
		}
	}
	slices.SortStableFunc(c.Steps, func(a, b Step) int { return cmp.Compare(b.Bytes, a.Bytes) })
	var others []ocispecs.Descriptor
	for _, l := range left {
		others = append(others, l)
	}
	if len(others) > 0 {
		rest := made(cachemiss.Step{}, others)
		c.Others = &rest
	}
	return c
}

// claim removes layers from those that are left.
func claim(left map[string]ocispecs.Descriptor, ids []string) (taken []ocispecs.Descriptor) {
	for _, id := range ids {
		if l, ok := left[id]; ok {
			taken = append(taken, l)
			delete(left, id)
		}
	}
	return taken
}

func made(s cachemiss.Step, layers []ocispecs.Descriptor) Step {
	out := Step{Name: s.Name, Stage: s.Stage, Platform: s.Platform, Layers: len(layers), Created: newest(layers)}
	for _, l := range layers {
		out.Bytes += l.Size
	}
	return out
}

// Table writes the steps of a scope.
func (c Contents) Table(w io.Writer, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s in %s: %s, %s\n", c.Name, c.Cache, plural(c.Layers, "layer"), size(c.Bytes))
	fmt.Fprintln(t, "SIZE\tCREATED\tSTAGE\tSTEP")
	for _, s := range c.Steps {
		where := s.Stage
		if s.Platform != "" {
			where = s.Platform + " " + where
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", size(s.Bytes), ago(s.Created, now), where, s.Name)
	}
	if o := c.Others; o != nil {
		fmt.Fprintf(t, "%s\t%s\t\t%s of which no step is known\n", size(o.Bytes), ago(o.Created, now), plural(o.Layers, "layer"))
	}
	return t.Flush()
}
