package cachespec

import (
	"slices"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Inline is a cache inside the image's config (BuildKit v0.34.2, cache/remotecache/inline).
// For a line of cache each scope N has an additional tag <prefix>N, in the image's repository
// or in that of Ref.
type Inline struct {
	Registry          // the repository and prefix of the scopes' tags
	Image    name.Tag // Resolve: the pushed image, which is then tagged
}

var inlineKind = kind{
	config: func() config { return &Inline{} }, inputs: Scoped | To,
	elsewhere: syntax.Problem{What: "type inline is read as the image that holds it", Hint: "write type=registry,ref= and the image"},
}

// Type implements [Config].
func (*Inline) Type() string { return "inline" }

// String implements [Config].
func (c *Inline) String() string {
	if label := c.label(); label != "" {
		return "inline " + label
	}
	return "inline"
}

// InImage implements [Config].
func (*Inline) InImage() bool { return true }

// NativeOCI implements [Config].
func (*Inline) NativeOCI() bool { return false }

// Options implements [Config]: the image decides.
func (*Inline) Options() map[string]string { return map[string]string{} }

func (c Inline) clone() config { return &c }

func (c *Inline) attributes() []attribute {
	all := c.repository()
	for i := range all {
		all[i].in = Scoped
	}
	return append(all, c.mode(), c.ignoring())
}

// unknown implements config.
func (c *Inline) unknown(name string) string {
	if slices.ContainsFunc(c.layers(), func(a attribute) bool { return a.name == name }) {
		return "inline caches are written as the image is: set it in outputs"
	}
	return ""
}

func (c *Inline) check(p *problems, in Input) {
	if in != Scoped {
		c.onlyMin(p, c.Export)
	}
}

func (c *Inline) onlyMin(p *problems, e Export) {
	if e.Mode == "max" {
		p.add("use a registry cache, or set cache-mode to min", "mode=max is not possible: the cache holds the image's own layers only")
	}
}

func (c *Inline) resolve(p *problems, env Environment) config {
	c.onlyMin(p, c.over(env.Export))
	if len(env.Images) == 0 {
		p.add("set push: true and tags, or use another cache", "needs an image that is pushed")
		return c
	}
	image, err := reference.ParseNormalizedNamed(env.Images[0])
	if err == nil {
		c.Image, err = syntax.Tag(image, c.Insecure)
	}
	if err != nil {
		p.add("", "the image has no name that a registry accepts: %v", err)
		return c
	}
	if c.Ref == "" {
		c.Ref = image.Name()
	}
	c.locate(p)
	c.checkImages(p, env.Images)
	return c
}
