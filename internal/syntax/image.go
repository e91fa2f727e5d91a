package syntax

import (
	"strings"

	"github.com/distribution/reference"
)

// ImageName reads the name of an image that is to be made.
func ImageName(text string) (reference.Named, *Problem) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil || upperCaseOwner(named) {
		return nil, NotAnImage(text)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, &Problem{What: "the name of an image to be built has no digest", Hint: "leave out @ and what follows"}
	}
	return named, nil
}

// upperCaseOwner tells whether a name is like Owner/app, whose first part the grammar takes
// for a registry only because it has upper-case letters.
func upperCaseOwner(named reference.Named) bool {
	registry := reference.Domain(named)
	return registry != strings.ToLower(registry) && !strings.ContainsAny(registry, ".:")
}

// NotAnImage is the problem of a text that is not the name of an image, with the spelling
// in lower case where that helps.
func NotAnImage(text string) *Problem {
	repository, tag := text, ""
	if colon := strings.LastIndex(text, ":"); colon > strings.LastIndex(text, "/") {
		repository, tag = text[:colon], text[colon:]
	}
	lower := strings.ToLower(repository) + tag
	if _, err := reference.ParseNormalizedNamed(lower); err != nil || lower == text {
		return &Problem{What: Quoted(text) + " is not the name of an image"}
	}
	return &Problem{What: Quoted(text) + " has upper-case letters in its repository", Hint: "write " + Quoted(lower)}
}
