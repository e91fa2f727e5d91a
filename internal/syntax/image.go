package syntax

import (
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
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

// Repository is the repository of a name, in the form that go-containerregistry makes requests
// with. Its own parser (v0.21.7, pkg/name) is narrower than the grammar of references, which
// BuildKit and registries follow: it wants two characters and more, and takes only one address of
// 127.0.0.0/8 for the machine's own. With insecure the registry may use plain HTTP; the machine's
// own may as well, as for BuildKit (v0.34.2, util/resolver). The error is of a host that no URL
// can have.
func Repository(named reference.Named, insecure bool) (name.Repository, error) {
	host := reference.Domain(named)
	var options []name.Option
	if local, err := docker.MatchLocalhost(host); insecure || local && err == nil {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(host, options...)
	if err != nil {
		return name.Repository{}, err
	}
	return registry.Repo(reference.Path(named)), nil
}

// Tag is the tag of a name, latest where it has none, in the form of [Repository].
func Tag(named reference.Named, insecure bool) (name.Tag, error) {
	repository, err := Repository(named, insecure)
	if err != nil {
		return name.Tag{}, err
	}
	tag := "latest"
	if tagged, ok := named.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	return repository.Tag(tag), nil
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
