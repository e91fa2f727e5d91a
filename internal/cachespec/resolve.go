package cachespec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Environment is what lines depend on besides themselves. The zero value is a managed
// builder, no images and no variables.
type Environment struct {
	Export   Export              // what the inputs compression, … say for all lines of cache
	Images   []string            // references that the build pushes, fully qualified
	Getenv   func(string) string // looks up variables of the environment; nil for an empty one
	CacheDir string              // this project's directory below the user's, for type local; "" where there is none

	Remote    bool // the builder is not a managed one, and connects to the caches itself
	Plaintext bool // requests to the builder cross a network unencrypted
}

// variable is the value of a variable of the environment, or "".
func (e Environment) variable(name string) string {
	if e.Getenv == nil {
		return ""
	}
	return e.Getenv(name)
}

// Resolve completes the lines of the input cache, and reports what is wrong with them in
// this run, before anything is started. "none" gives no cache; "auto" gives a registry cache
// beside the first image where there is one, else GitHub's in a job that has it, else a local
// one. The lines and their configs stay as they are. Caches with problems are left out.
func Resolve(lines []Cache, env Environment) ([]Cache, []syntax.Problem) {
	var caches []Cache
	var found []syntax.Problem
	none := false
	for _, line := range lines {
		given, ok := line.Config.(config)
		if !ok {
			continue // Parse has reported the type
		}
		p := line.problems()
		if withheld := line.Withheld(); len(withheld) > 0 {
			p.add("give a value, or leave it out; a secret that is not set is empty", "%s is empty", strings.Join(withheld, ", "))
			found = append(found, p.found...)
			continue
		}
		config := given.clone().resolve(p, env)
		none = none || config == nil
		found = append(found, p.found...)
		if config != nil && len(p.found) == 0 {
			line.Config = config
			if auto, ok := given.(*Automatic); ok {
				line.Instead = auto.instead(env)
			}
			caches = append(caches, line)
		}
	}
	if none && len(lines) > 1 {
		found = append(found, syntax.Problem{Input: Scoped.String(), What: "none cannot be combined with other caches", Hint: "leave out none, or all other lines"})
	}
	return caches, append(found, twice(caches)...)
}

// twice reports two lines with one identity: the second export would overwrite the first.
func twice(caches []Cache) []syntax.Problem {
	var seen []string
	var found []syntax.Problem
	for _, c := range caches {
		if slices.Contains(seen, c.Config.Identity()) {
			found = append(found, syntax.Problem{
				Input: Scoped.String(), What: fmt.Sprintf("%s is given twice", c),
				Hint: "leave one of the lines out: the second would overwrite what the first wrote",
			})
		}
		seen = append(seen, c.Config.Identity())
	}
	return found
}

// objects completes a cache in an object store. Where a remote builder writes it, the attributes
// that BuildKit's own exporter does not know have no effect, and are refused. It knows the mode, and
// with compresses those of compressions; their defaults are left to it.
func (c *common) objects(p *problems, env Environment, compresses bool) {
	if !env.Remote {
		c.complete(p, env)
		return
	}
	given := c.over(env.Export)
	c.Export = Export{Mode: cmp.Or(given.Mode, exportDefaults.Mode)}
	refused, why := []string{"oci-mediatypes", "image-manifest"}, "BuildKit's %s caches have no manifest"
	if compresses {
		c.Compression, c.CompressionLevel, c.ForceCompression = given.Compression, given.CompressionLevel, given.ForceCompression
	} else {
		refused, why = append([]string{"compression", "compression-level", "force-compression"}, refused...), "BuildKit writes layers of %s caches with gzip"
	}
	said := given.Attrs()
	for _, name := range refused {
		if said[name] != "" {
			p.add("leave it out, or use builder=embedded", "%s is not possible on a remote builder: "+why, name, p.kind)
		}
	}
	p.conflicts(c.Export)
}

// inTheOpen refuses credentials that would cross a network unencrypted.
func inTheOpen(p *problems, env Environment, credentials bool) {
	if credentials && env.Plaintext {
		p.add("reach the builder through ssh:// or unix://, or over TLS (builder-cacert), or leave them out and give the builder its own credentials",
			"credentials would go to the builder over plain tcp://")
	}
}

// Automatic is the type auto: the cache that needs no further set-up.
type Automatic struct{ common }

var autoKind = kind{config: func() config { return &Automatic{} }, inputs: Scoped}

// Type implements [Config].
func (*Automatic) Type() string { return "auto" }

// String implements [Config].
func (*Automatic) String() string { return "auto" }

// Identity implements [Config].
func (*Automatic) Identity() string { return "auto" }

func (c *Automatic) clone() config           { return c }
func (c *Automatic) attributes() []attribute { return nil }

func (c *Automatic) resolve(p *problems, env Environment) config {
	if r := besideImage(env.Images); r != nil {
		return r.resolve(p, env)
	}
	if gha := newGHA(); gha.fromRunner(env).lacks(env) == "" {
		return gha.resolve(p, env)
	}
	return (&Local{}).resolve(p, env) // in env.CacheDir
}

// instead says why the cache is none beside an image; "" where it is.
func (c *Automatic) instead(env Environment) string {
	if besideImage(env.Images) != nil {
		return ""
	}
	why := "the build pushes no image"
	if lacks := newGHA().fromRunner(env).lacks(env); lacks != "" {
		why += ", and " + lacks
	}
	return why
}

// None is the type none: no cache at all.
type None struct{ common }

var noneKind = kind{config: func() config { return &None{} }, inputs: Scoped}

// Type implements [Config].
func (*None) Type() string { return "none" }

// String implements [Config].
func (*None) String() string { return "none" }

// Identity implements [Config].
func (*None) Identity() string { return "none" }

func (c *None) clone() config                         { return c }
func (c *None) attributes() []attribute               { return nil }
func (c *None) resolve(*problems, Environment) config { return nil }
