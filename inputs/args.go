package inputs

import (
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// buildArgs reads NAME=value. As with docker build, a bare NAME takes its value from the
// environment; here it is a problem if the variable is unset. As in buildx
// (commands/build.go), SOURCE_DATE_EPOCH comes from the environment unless it is given.
func (p *parser) buildArgs() []syntax.Pair {
	var pairs []syntax.Pair
	for _, it := range p.list("build-args") {
		name, value, given := strings.Cut(it.Text, "=")
		ok := given
		if !given {
			value, ok = p.env[name]
		}
		switch {
		case name == syntaxArg && !ok:
			continue
		case !ok || name == "":
			p.report("build-args", it.Line, "expected NAME=value, or the NAME of a variable that is set", "")
		case name == syntaxArg && strings.TrimSpace(value) == "":
			p.report("build-args", it.Line, syntaxArg+" is empty", "leave it out, or write it without = to take it from the environment where it is set")
		default:
			pairs = append(pairs, syntax.Pair{Key: name, Value: value})
		}
	}
	if epoch := p.env[epochArg]; epoch != "" && !has(pairs, epochArg) {
		pairs = append(pairs, syntax.Pair{Key: epochArg, Value: epoch})
	}
	return pairs
}

// Build arguments that BuildKit's client interprets, as in buildx's build/opt.go.
const (
	syntaxArg        = "BUILDKIT_SYNTAX"
	epochArg         = "SOURCE_DATE_EPOCH"
	inlineCacheArg   = "BUILDKIT_INLINE_CACHE"
	multiPlatformArg = "BUILDKIT_MULTI_PLATFORM"
)

func has(pairs []syntax.Pair, key string) bool {
	return slices.ContainsFunc(pairs, func(p syntax.Pair) bool { return p.Key == key })
}

// buildArg is the last build argument of a name, "" for none.
func (v Values) buildArg(name string) string {
	for _, a := range slices.Backward(v.BuildArgs) {
		if a.Key == name {
			return a.Value
		}
	}
	return ""
}

// imageCache tells whether BUILDKIT_INLINE_CACHE asks for a cache that no line does.
func (v Values) imageCache() bool {
	there := slices.ContainsFunc(slices.Concat(v.Caches, v.CacheTo), func(c cachespec.Cache) bool { return c.Config != nil && c.Config.InImage() })
	return v.InlineCache && !there
}

func (p *parser) labels() []syntax.Pair {
	var pairs []syntax.Pair
	for _, it := range p.list("labels") {
		key, value, ok := strings.Cut(it.Text, "=")
		if !ok || key == "" {
			p.report("labels", it.Line, "expected key=value", `for an empty value write "key="`)
			continue
		}
		pairs = append(pairs, syntax.Pair{Key: key, Value: value})
	}
	return pairs
}
