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
		named, problem := imageName(it.Text)
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

// imageName reads the name of an image that is to be made.
func imageName(text string) (reference.Named, *syntax.Problem) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil || upperCaseOwner(named) {
		return nil, notAnImage(text)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, &syntax.Problem{What: "the name of an image to be built has no digest", Hint: "leave out @ and what follows"}
	}
	return named, nil
}

// upperCaseOwner tells a name such as Owner/app, whose first part the grammar takes
// for a registry only because it has upper-case letters.
func upperCaseOwner(named reference.Named) bool {
	registry := reference.Domain(named)
	return registry != strings.ToLower(registry) && !strings.ContainsAny(registry, ".:")
}

// notAnImage is the problem of a name that is none, with the spelling in lower case
// where that helps.
func notAnImage(text string) *syntax.Problem {
	repository, tag := text, ""
	if colon := strings.LastIndex(text, ":"); colon > strings.LastIndex(text, "/") {
		repository, tag = text[:colon], text[colon:]
	}
	lower := strings.ToLower(repository) + tag
	if _, err := reference.ParseNormalizedNamed(lower); err != nil || lower == text {
		return &syntax.Problem{What: syntax.Quoted(text) + " is not the name of an image"}
	}
	return &syntax.Problem{What: syntax.Quoted(text) + " has upper-case letters in its repository", Hint: "write " + syntax.Quoted(lower)}
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
