package inputs

import (
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// tags reads the image's names, each once and without a default tag.
func (p *parser) tags() []reference.Named {
	var tags []reference.Named
	for _, it := range p.list("tags") {
		named, problem := syntax.ImageName(it.Text)
		if problem != nil {
			p.report("tags", it.Line, problem.What, problem.Hint)
			continue
		}
		same := func(other reference.Named) bool { return other.String() == named.String() }
		if !slices.ContainsFunc(tags, same) {
			tags = append(tags, named)
		}
	}
	return tags
}

// tagged gives names without a tag the tag latest.
func tagged(names []reference.Named) []string {
	var all []string
	for _, n := range names {
		all = append(all, reference.TagNameOnly(n).String())
	}
	return all
}

// platforms reads the platforms, normalised and each once. As in buildx's
// util/platformutil, local is the machine's own.
func (p *parser) platforms() []string {
	var all []string
	for _, it := range p.list("platforms") {
		name, ok := syntax.Platform(strings.ToLower(it.Text))
		if !ok {
			p.report("platforms", it.Line, syntax.Quoted(it.Text)+" is not a platform", "write it like linux/amd64 or linux/arm/v7")
			continue
		}
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}
