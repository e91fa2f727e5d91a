// Package cachespec knows what the lines of the inputs cache, cache-from and cache-to say:
// the types of caches, the attributes of each, and what follows from a line before anything
// is opened.
//
// Each type is one file with one [Config], and one entry in the table of types. All other
// rooms ask the config:
//
//	cache, ok, problems := cachespec.Parse(cachespec.Scoped, syntax.Item{Line: 1, Text: "type=s3,bucket=b,region=r,prefix=app"}, nil)
//	caches, problems := cachespec.Resolve([]cachespec.Cache{cache}, cachespec.Environment{})
//	caches[0].Config.String() // "s3 b/app"
//	caches[0].Config.Dirs()   // none
//
// [Parse] reports what is wrong with the line itself, [Resolve] what depends on the run: its
// images, its environment, its builder, and whether it gets the secrets in the line.
package cachespec

import (
	"maps"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Input is the input that a line belongs to, or the union of several.
type Input uint8

// The inputs with cache lines. Scoped is cache, whose caches are scoped by branch. From is
// cache-from and To is cache-to, whose lines go to BuildKit as they are.
const (
	Scoped Input = 1 << iota
	From
	To

	verbatim = From | To
	anywhere = Scoped | verbatim
)

// String is the name of the input.
func (i Input) String() string {
	return map[Input]string{Scoped: "cache", From: "cache-from", To: "cache-to"}[i]
}

// Cache is one line of an input.
type Cache struct {
	syntax.Entry        // as in the input, with paths as this process sees them
	Input        Input  // one of them
	Config       Config // the same, typed; nil where the input does not have the type
	Instead      string // Resolve: why auto became this cache instead of a registry beside the image; "" where it did not
}

// Config is what a line says of one cache. Its answers are complete after [Resolve]; before
// it they hold what is written in the line alone.
type Config interface {
	// Type is BuildKit's name of the type: "registry".
	Type() string
	// String names the place for people: "registry ghcr.io/o/app", "local /var/cache/app".
	// It never holds a secret.
	String() string
	// Identity is equal for two caches that write the same place.
	Identity() string
	// Strict reports whether a failed export to this cache fails the step
	// (ignore-error=false), also without the input cache-strict.
	Strict() bool
	// Options are the attributes that say how layers and manifest are written: mode,
	// compression and media types. The map is fresh. It is empty for a cache in the image.
	Options() map[string]string
	// Dirs are the absolute paths of the directories on this machine that hold the cache.
	Dirs() []string
	// Credentials reports whether entries for BuildKit carry a credential.
	Credentials() bool
	// InImage reports whether the cache is a part of the image, which the export of the image
	// writes.
	InImage() bool
	// NativeOCI reports whether BuildKit itself writes this cache as an OCI manifest. It then
	// follows all of Options and answers with the manifest's digest. For other caches it
	// writes layers with gzip and answers with no digest.
	NativeOCI() bool
	// Native are the attributes of an entry of cache-from or cache-to, as in the line, with
	// those that BuildKit's clients add from their environment. The map is fresh.
	Native(Environment) map[string]string
}

// Pushed is a config of a cache in a registry.
type Pushed interface {
	// PushedTo is the repository, fully qualified as in "docker.io/owner/app", and whether the
	// registry may speak plain HTTP or have a certificate that no known authority has signed. The
	// repository is "" where the line names none.
	PushedTo() (repository string, insecure bool)
}

// config is what this package needs of a type.
type config interface {
	Config
	// line are the fields that all types have.
	line() *common
	// attributes is the table of the type's attributes, bound to the fields.
	attributes() []attribute
	// unknown is the hint for an attribute that this type lacks, or "".
	unknown(name string) string
	// clone is a copy of the config.
	clone() config
	// check reports attributes that conflict, or are missing, in a line of the input.
	check(p *problems, in Input)
	// resolve completes the config of a line of cache, in place. It returns the config, or
	// another that replaces it, or nil for no cache.
	resolve(p *problems, env Environment) config
}

// A kind is one type of cache.
type kind struct {
	config    func() config
	inputs    Input          // that may have it
	elsewhere syntax.Problem // what is reported in other inputs; the zero value: that the type is unknown
	variables []string       // of the environment, with credentials
}

// kinds is the table of types.
var kinds = []kind{registryKind, localKind, ghaKind, s3Kind, azblobKind, inlineKind, autoKind, noneKind}

func (k kind) name() string { return k.config().Type() }

// Types are the types that an input may have, sorted. Those of [To] are the backends.
func Types(in Input) []string {
	var all []string
	for _, k := range kinds {
		if k.inputs&in != 0 {
			all = append(all, k.name())
		}
	}
	slices.Sort(all)
	return all
}

// SecretVariables are the variables of the environment that hold credentials of caches.
func SecretVariables() []string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.variables...)
	}
	return all
}

// ImageCache is the cache that the build argument BUILDKIT_INLINE_CACHE asks for.
func ImageCache() Cache {
	c := inlineKind.config()
	return Cache{Entry: syntax.Entry{Type: c.Type(), Attrs: map[string]string{}}, Input: To, Config: c}
}

// Parse reads one line: BuildKit's CSV; or one word, which is the type; or in cache-from and
// cache-to a reference, as in buildx's util/buildflags. here translates a path of the user's
// to the path that this process sees; nil leaves paths as they are. ok is false for a line
// without a type.
func Parse(in Input, it syntax.Item, here func(string) (string, *syntax.Problem)) (c Cache, ok bool, found syntax.Problems) {
	c.Entry = syntax.Entry{Line: it.Line, Attrs: map[string]string{}}
	switch {
	case strings.ContainsAny(it.Text, `=,"`):
		c.Entry, found = syntax.ParseEntry(it)
	case in != Scoped:
		c.Type, c.Attrs["ref"] = registryKind.name(), it.Text
	case syntax.IsName(it.Text):
		c.Type = it.Text
	default:
		found = syntax.Problems{{Line: it.Line, What: "expected type=…", Hint: "a repository is written type=registry,ref=…"}}
	}
	c.Input = in
	for i := range found {
		found[i].Input = in.String()
	}
	if c.Type == "" {
		return c, false, found
	}
	p := c.problems()
	c.read(p, here)
	return c, true, append(found, p.found...)
}

// problems is an empty collection for the line.
func (c *Cache) problems() *problems {
	return &problems{input: c.Input.String(), line: c.Line, kind: c.Type}
}

// read makes the config.
func (c *Cache) read(p *problems, here func(string) (string, *syntax.Problem)) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name() == c.Type })
	switch {
	case i < 0 || kinds[i].inputs&c.Input == 0 && kinds[i].elsewhere.What == "":
		p.kind = ""
		known := Types(c.Input)
		p.add(nearest(c.Type, known), "type %s is unknown", syntax.Quoted(c.Type))
		return
	case kinds[i].inputs&c.Input == 0:
		p.kind = ""
		p.add(kinds[i].elsewhere.Hint, "%s", kinds[i].elsewhere.What)
		return
	}
	typed := kinds[i].config()
	c.Config = typed
	typed.line().attrs = c.Attrs
	known := typed.attributes()
	for _, name := range slices.Sorted(maps.Keys(c.Attrs)) {
		a := find(known, name, c.Input)
		switch {
		case a == nil:
			p.unknown(known, name, c.Input, typed.unknown(name))
			continue
		case a.path && here != nil && c.Attrs[name] != "":
			found, problem := here(c.Attrs[name])
			if problem != nil {
				p.found = append(p.found, syntax.Problem{Input: p.input, Line: p.line, What: problem.What, Hint: problem.Hint})
			}
			c.Attrs[name] = found
		}
		if want, ok := a.take(c.Attrs[name], c.Input); !ok && !c.withholds(name) {
			p.add("give "+want, "%s is not valid", shown(name, c.Attrs[name]))
		}
	}
	typed.check(p, c.Input)
}

// Secrets are the values of the line's attributes that are credentials.
func (c Cache) Secrets() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.Attrs)) {
		if isSecret(name) {
			all = append(all, c.Attrs[name])
		}
	}
	return all
}

// Withheld are the line's credentials that are empty, by attribute, sorted. A CI passes secrets that
// it withholds from a run in this way. In a run that gets secrets they are a mistake, which [Resolve]
// reports of lines of cache.
func (c Cache) Withheld() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(c.Attrs)), func(name string) bool { return !c.withholds(name) })
}

func (c Cache) withholds(name string) bool { return isSecret(name) && c.Attrs[name] == "" }

// Credentials reports whether the line's entry for BuildKit carries a credential.
func (c Cache) Credentials() bool { return c.Config != nil && c.Config.Credentials() }

// String names the line's place for people.
func (c Cache) String() string {
	if c.Config == nil {
		return c.Type
	}
	return c.Config.String()
}

// isSecret reports whether an attribute holds a credential. It goes by parts of the name, so
// that it also finds misspelt ones: BuildKit has access_key_id, secret_access_key,
// session_token, token and ghtoken.
func isSecret(name string) bool {
	return slices.ContainsFunc([]string{"secret", "token", "password", "access_key"}, func(part string) bool {
		return strings.Contains(name, part)
	})
}
