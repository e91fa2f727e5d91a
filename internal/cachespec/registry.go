package cachespec

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Registry is a cache in an OCI registry: the scope N is the tag <prefix>N of one
// repository (BuildKit v0.34.2, cache/remotecache/registry).
type Registry struct {
	common
	Ref      string // host/repository[:tag], as in the line
	Insecure bool   // plain HTTP, or a certificate that no known authority has signed

	Repository name.Repository // Resolve: of Ref
	TagPrefix  string          // Resolve: precedes a scope's name: "cache-", or Ref's own tag and a hyphen
}

var registryKind = kind{config: func() config { return &Registry{} }, inputs: anywhere}

// Type implements [Config].
func (*Registry) Type() string { return "registry" }

// NativeOCI implements [Config].
func (*Registry) NativeOCI() bool { return true }

func (c Registry) clone() config { return &c }

func (c *Registry) attributes() []attribute {
	return append(c.repository(), c.export()...)
}

// repository are the attributes that lead to a repository.
func (c *Registry) repository() []attribute {
	return []attribute{place("ref", &c.Ref, notEmpty), boolean("registry.insecure", &c.Insecure)}
}

// String implements [Config].
func (c *Registry) String() string { return "registry " + c.label() }

// label is a repository as people know it: go-containerregistry calls Docker Hub by the
// name of its old index.
func (c *Registry) label() string {
	switch {
	case c.Repository.RepositoryStr() == "":
		return c.Ref
	case c.Repository.RegistryStr() == name.DefaultRegistry:
		return "docker.io/" + c.Repository.RepositoryStr()
	}
	return c.Repository.Name()
}

// PushedTo implements [Pushed].
func (c *Registry) PushedTo() (repository string, insecure bool) {
	named, err := reference.ParseNormalizedNamed(c.label())
	if err != nil {
		return "", c.Insecure
	}
	return named.Name(), c.Insecure
}

// Identity implements [Config].
func (c *Registry) Identity() string { return "registry " + c.label() + " " + c.TagPrefix }

func (c *Registry) check(p *problems, in Input) {
	c.common.check(p, in)
	switch {
	case in == Scoped:
	case c.Ref == "":
		p.add("say which: type=registry,ref=ghcr.io/owner/app:cache", "ref is missing")
	case in == To:
		c.checkName(p)
	}
}

// checkName refuses a ref that BuildKit cannot write to.
func (c *Registry) checkName(p *problems) {
	_, problem := syntax.ImageName(c.Ref)
	switch {
	case problem != nil && !strings.Contains(c.Ref, "/"):
		// A lone word may be a piece of a credential.
		p.add("write it like ghcr.io/owner/app:cache", "ref is not the name of an image")
	case problem != nil:
		p.add(problem.Hint, "ref: %s", problem.What)
	}
}

// Overwriting reports the lines of cache-to that name an image that is pushed. Images are
// fully qualified.
func Overwriting(lines []Cache, images []string) []syntax.Problem {
	var found []syntax.Problem
	for _, line := range lines {
		r, ok := line.Config.(*Registry)
		if !ok || line.Input != To {
			continue
		}
		named, problem := syntax.ImageName(r.Ref)
		if problem == nil && slices.Contains(images, reference.TagNameOnly(named).String()) {
			p := line.problems()
			p.pushed(r.Ref, reference.TagNameOnly(named).String(), "give the cache another tag")
			found = append(found, p.found...)
		}
	}
	return found
}

func (p *problems) pushed(ref, image, hint string) {
	p.add(hint, "ref=%s is where the image %s is pushed", ref, image)
}

func (c *Registry) resolve(p *problems, env Environment) config {
	c.complete(p, env)
	if !c.has("ref") && c.Ref == "" {
		p.add("say where: type=registry,ref=ghcr.io/owner/app", "ref is missing")
	}
	if c.Ref != "" {
		c.locate(p)
		c.checkImages(p, env.Images)
	}
	return c
}

// besideImage is a cache in the repository of the first image, nil where there is none.
func besideImage(images []string) *Registry {
	if len(images) == 0 {
		return nil
	}
	image, err := reference.ParseNormalizedNamed(images[0])
	if err != nil {
		return nil
	}
	return &Registry{Ref: image.Name()}
}

// maxPrefix is the length that a registry's tag of 128 characters leaves for a prefix before
// a scope's name of 110.
const maxPrefix = 17

// locate splits Ref into the repository and the prefix of the scopes' tags. It follows the
// reference grammar of distribution, as BuildKit does.
func (c *Registry) locate(p *problems) {
	// A password may precede an @, so neither of these is shown.
	if strings.Contains(c.Ref, "://") {
		p.add("leave out the scheme: ref=ghcr.io/owner/app", "ref is a URL")
		return
	}
	if strings.Contains(c.Ref, "@") {
		p.add("leave the digest out: a cache is written under a tag for each branch", "ref has a digest")
		return
	}
	repository, err := c.named()
	if err != nil {
		hint := "write it as host/repository, like ghcr.io/owner/app"
		if lower := strings.ToLower(c.Ref); lower != c.Ref {
			hint = fmt.Sprintf("repositories are lower-case: ref=%s", lower)
		}
		p.add(hint, "ref=%s is not a repository", c.Ref)
		return
	}
	c.Repository, c.TagPrefix = repository, "cache-" // which keeps them apart from the tags of images
	if own := ownTag(c.Ref); own != "" {
		c.TagPrefix = p.prefix(own)
	}
}

// named is the repository that Ref names.
func (c *Registry) named() (name.Repository, error) {
	named, problem := syntax.ImageName(c.Ref)
	if problem != nil {
		return name.Repository{}, errors.New(problem.What)
	}
	return syntax.Repository(named, c.Insecure)
}

// prefix is what a tag of the user's becomes before a scope's name.
func (p *problems) prefix(tag string) string {
	if len(tag)+1 > maxPrefix {
		p.add(fmt.Sprintf("give one of at most %d characters: the branch's name follows it", maxPrefix-1), "tag %q is too long", tag)
	}
	return tag + "-"
}

// checkImages refuses a ref that an image is pushed to: the ref is the image's own, or the
// image has a tag that could be a scope's.
func (c *Registry) checkImages(p *problems, images []string) {
	for _, image := range images {
		named, err := reference.ParseNormalizedNamed(image)
		if err != nil {
			continue
		}
		tag, err := syntax.Tag(named, c.Insecure)
		if err != nil || tag.Context().Name() != c.Repository.Name() {
			continue
		}
		if ownTag(c.Ref) == tag.TagStr() || strings.HasPrefix(tag.TagStr(), c.TagPrefix) {
			p.pushed(c.Ref, image, "give the cache another tag, or none")
			return
		}
	}
}

// ownTag is the tag that stands in ref, "" for none.
func ownTag(ref string) string {
	last := ref[strings.LastIndex(ref, "/")+1:]
	_, tag, _ := strings.Cut(last, ":")
	return tag
}
