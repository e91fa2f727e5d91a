package step

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/scope"
)

// PrintPlan prints the scopes and caches that the run would read and write, as text or as JSON,
// and returns the exit code. It contacts no builder and no store.
func (r Run) PrintPlan(asJSON bool) int {
	w := r.host.Redactor.Log(r.host.Stdout)
	var err error
	if asJSON {
		err = r.planJSON(w)
	} else {
		_, err = io.WriteString(w, r.planText())
	}
	if err := errors.Join(err, w.Close()); err != nil {
		r.say(err.Error())
		return ExitBuild
	}
	return ExitOK
}

// planned is a plan in JSON. Imports and exports are BuildKit's native cache entries, for managed
// builders too. With several builders or targets the plan of each is in builds.
type planned struct {
	Builder   string   `json:"builder,omitempty"`   // address; only in builds
	Platforms []string `json:"platforms,omitempty"` // that the builder builds; only in builds
	Target    string   `json:"target,omitempty"`    // of bake files; only in builds
	scope.Plan
	Imports []entry      `json:"imports"`
	Exports []entry      `json:"exports"`
	Auto    *report.Auto `json:"auto,omitempty"` // what auto became, where that is not a registry
	Builds  []planned    `json:"builds,omitempty"`
}

type entry struct {
	Type  string            `json:"type"`
	Attrs map[string]string `json:"attrs"`
}

func (r Run) planJSON(w io.Writer) error {
	all := planned{Plan: r.Plan(), Imports: []entry{}, Exports: []entry{}}
	for _, b := range r.Builds {
		one := b.planned()
		all.Imports = append(all.Imports, one.Imports...)
		all.Exports = append(all.Exports, one.Exports...)
		all.Auto = cmp.Or(all.Auto, one.Auto)
		if len(r.Builds) > 1 || r.bakes() {
			all.Builds = append(all.Builds, one)
		}
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(all)
}

func (b Build) planned() planned {
	p := planned{Builder: b.Builder.Address.String(), Platforms: b.Inputs.Platforms, Target: b.Inputs.Bake.Target, Plan: b.Plan, Imports: []entry{}, Exports: []entry{}}
	p.Warnings = addOnce(p.Warnings, b.Warnings...)
	if b.Auto.Why != "" {
		p.Auto = &b.Auto
	}
	list := func(to *[]entry, from []client.CacheOptionsEntry) {
		for _, e := range from {
			*to = append(*to, entry{e.Type, e.Attrs})
		}
	}
	for _, c := range b.Caches {
		list(&p.Imports, c.Imports(b.Plan))
		list(&p.Exports, c.Exports(b.Plan))
	}
	for _, c := range b.Inputs.CacheFrom {
		p.Imports = append(p.Imports, entry{c.Type, c.Attrs})
	}
	for _, c := range b.Inputs.CacheTo {
		p.Exports = append(p.Exports, entry{c.Type, c.Attrs})
	}
	return p
}

func (r Run) planText() string {
	var out strings.Builder
	for _, b := range r.Builds {
		switch {
		case r.bakes():
			fmt.Fprintf(&out, "target %s\n", b.name())
		case len(r.Builds) > 1:
			fmt.Fprintf(&out, "builder %s (%s)\n", b.Builder.Address, b.name())
		}
		out.WriteString(b.planText())
	}
	for _, warning := range r.planWarnings() {
		fmt.Fprintf(&out, "warning: %s\n", warning)
	}
	return out.String()
}

func (b Build) planText() string {
	var out strings.Builder
	write := string(b.Plan.Write)
	if write == "" {
		write = "nothing"
	}
	fmt.Fprintf(&out, "writes  %s (%s)\n", write, b.Plan.Why)
	for _, source := range b.Plan.Read {
		fmt.Fprintf(&out, "reads   %s (%s)\n", source.Name, source.Why)
	}
	for _, c := range b.Caches {
		fmt.Fprintf(&out, "cache   %s%s%s\n", c, b.instead(c), b.refusal(c))
	}
	verbatim := func(key string, caches []cachespec.Cache) {
		for _, c := range caches {
			fmt.Fprintf(&out, "%-7s %s\n", key, c)
		}
	}
	verbatim("from", b.Inputs.CacheFrom)
	verbatim("to", b.Inputs.CacheTo)
	return out.String()
}

// instead says why the automatic cache is this one, where that is not a registry.
func (b Build) instead(c backends.Backend) string {
	if b.Auto.Why == "" || b.Auto.Cache != c.String() {
		return ""
	}
	return " (auto: " + b.Auto.Why + ")"
}

// refusal says why a cache does not store the scope that is written; "": it does, or no scope is
// written.
func (b Build) refusal(c backends.Backend) string {
	if limited, ok := c.(backends.Limited); ok && b.Plan.Write != "" {
		if why := limited.Refuses(b.Plan); why != "" {
			return " (not written: " + why + ")"
		}
	}
	return ""
}
