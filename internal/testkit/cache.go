package testkit

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Resolve resolves lines of the input cache in an environment, and returns their problems too.
func Resolve(env cachespec.Environment, texts ...string) ([]cachespec.Cache, syntax.Problems) {
	lines, problems := Lines(cachespec.Scoped, texts...)
	caches, found := cachespec.Resolve(lines, env)
	problems = append(problems, found...)
	slices.SortStableFunc(problems, func(a, b syntax.Problem) int { return cmp.Compare(a.Line, b.Line) })
	return caches, problems
}

// Lines parses lines of an input with caches, and returns the problems of each.
func Lines(in cachespec.Input, texts ...string) (lines []cachespec.Cache, problems syntax.Problems) {
	for i, text := range texts {
		line, ok, found := cachespec.Parse(in, syntax.Item{Line: i + 1, Text: text}, nil)
		problems = append(problems, found...)
		if ok {
			lines = append(lines, line)
		}
	}
	return lines, problems
}

// Cache is a cache as users name it.
type Cache struct {
	Line  string            // the cache line: "type=local,dest=/tmp/x"
	Image string            // the image's name without a tag, for caches that derive their ref from it: "127.0.0.1:5001/app"
	Env   map[string]string // the environment that the backend reads; nil: empty
}

// Backend opens the cache.
func (c Cache) Backend(t testing.TB) backends.Backend {
	t.Helper()
	env := cachespec.Environment{Getenv: func(name string) string { return c.Env[name] }}
	if c.Image != "" {
		env.Images = []string{c.Image + ":v1"}
	}
	return Backend(t, env, c.Line)
}

// Backend is the backend of one valid line.
func Backend(t testing.TB, env cachespec.Environment, line string) backends.Backend {
	t.Helper()
	caches, problems := Resolve(env, line)
	if len(caches) != 1 || len(problems) > 0 {
		t.Fatalf("%s: %d caches, problems:\n%v", line, len(caches), problems)
	}
	return backends.Open(caches, nil)[0]
}

// Scopes opens the cache for a test to read and write.
func (c Cache) Scopes(t testing.TB) backends.Scopes {
	t.Helper()
	return c.Backend(t).Scopes()
}

// Environ looks up variables, each given as NAME=value. The last of several assignments holds.
func Environ(variables ...string) func(string) string {
	return func(name string) string {
		found := ""
		for _, v := range variables {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				found = value
			}
		}
		return found
	}
}

// OnRunner is the environment of a container action on github.com.
func OnRunner(token string, more ...string) func(string) string {
	return Environ(append([]string{
		"GITHUB_ACTIONS=true", "GITHUB_SERVER_URL=https://github.com", "GITHUB_REPOSITORY=o/app",
		"ACTIONS_RESULTS_URL=https://results.example/", "ACTIONS_CACHE_URL=https://v1.example/x/", "ACTIONS_RUNTIME_TOKEN=" + token,
	}, more...)...)
}
