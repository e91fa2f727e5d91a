package cachemiss

import (
	"fmt"
	"slices"
	"strings"
)

// maxDifferences is how many differences of a step are told; others are counted.
const maxDifferences = 3

// facts says how the facts of a step differ from those of the step that was in its place.
func (p *pair) facts(i, j int) string {
	now, before := p.now.Steps[i], p.before.Steps[j]
	if now.Kind != before.Kind {
		return "the instruction changed: " + changed(before.Name, now.Name)
	}
	var all []string
	for _, f := range now.Facts {
		was, had := before.fact(f.Key)
		if !had {
			all = append(all, p.fact(now.Kind, f.Key, "new", "", f.Text))
		} else if was.Hash != f.Hash {
			all = append(all, p.fact(now.Kind, f.Key, "changed", was.Text, f.Text))
		}
	}
	for _, f := range before.Facts {
		if _, has := now.fact(f.Key); !has {
			all = append(all, p.fact(now.Kind, f.Key, "gone", f.Text, ""))
		}
	}
	if first, ok := now.fact(factPlatform); ok {
		if was, _ := before.fact(factPlatform); was.Hash != first.Hash {
			return p.fact(now.Kind, factPlatform, "changed", was.Text, first.Text)
		}
	}
	all = slices.DeleteFunc(all, func(s string) bool { return s == "" })
	if len(all) == 0 {
		return "its options changed"
	}
	if more := len(all) - maxDifferences; more > 0 {
		all = append(all[:maxDifferences], fmt.Sprintf("+%d", more))
	}
	return strings.Join(all, "; ")
}

// fact says how one fact differs; "": others say it.
func (p *pair) fact(kind Kind, key, how, was, is string) string {
	arrow := fmt.Sprintf("%s → %s", quoted(was), quoted(is))
	switch key {
	case factCommand:
		what := "the command changed: "
		if kind == File {
			what = "the instruction changed: "
		}
		return what + changed(was, is)
	case factPlatform, factUser:
		return key + ": " + arrow
	case factWorkdir:
		return "working directory: " + arrow
	case factNetwork, factSecurity:
		return key + " mode: " + arrow
	case factTime:
		return "SOURCE_DATE_EPOCH: " + how
	case factRest:
		return ""
	}
	word, name, _ := strings.Cut(key, " ")
	name = short(name, longestText)
	switch word + " " {
	case factVariable:
		if slices.Contains(p.now.Arguments, name) || slices.Contains(p.before.Arguments, name) {
			word = "build argument"
		}
		return word + " " + name + ": " + how
	case factContent:
		return "the content of the heredoc " + strings.TrimPrefix(name, "/") + ": " + how
	case factMount:
		if how == "changed" {
			return "mount of " + name + ": " + changed(was, is)
		}
		return "mount of " + name + ": " + how
	case factUlimit:
		return word + " " + name + ": " + arrow
	}
	return word + " " + name + ": " + how
}
