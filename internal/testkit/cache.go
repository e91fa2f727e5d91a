package testkit

import (
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Cache is a cache as a user of the program names it.
type Cache struct {
	Line  string            // the cache line: "type=local,dest=/tmp/x"
	Image string            // the image's name without a tag, for caches that derive their ref from it: "127.0.0.1:5001/app"
	Env   map[string]string // the environment that the backend reads; nil for an empty one
}

// Backend is the cache as the program sees it.
func (c Cache) Backend(t testing.TB) backends.Backend {
	t.Helper()
	pairs, err := syntax.ParseCSV(c.Line)
	if err != nil {
		t.Fatal(err)
	}
	line := inputs.Cache{Attrs: map[string]string{}}
	for _, pair := range pairs {
		if pair.Key == "type" {
			line.Type = pair.Value
		} else {
			line.Attrs[pair.Key] = pair.Value
		}
	}
	caches, problems := backends.New([]inputs.Cache{line}, backends.Options{
		Images: []string{c.Image + ":v1"},
		Getenv: func(name string) string { return c.Env[name] },
	})
	if len(problems) > 0 {
		t.Fatal(syntax.Problems(problems))
	}
	return caches[0]
}

// Scopes opens the cache, for a test to look into.
func (c Cache) Scopes(t testing.TB) backends.Scopes {
	t.Helper()
	return c.Backend(t).(backends.Keeper).Scopes()
}
