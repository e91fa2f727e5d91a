package conformance

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestGHA(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: services(t), object: true, refs: true})
}

func TestGHARemote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: services(t), object: true, refs: true, gzip: true, remote: true})
}

func TestGHA1(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: runners(t), object: true, seconds: true})
}

func TestGHA1Remote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: runners(t), object: true, gzip: true, remote: true, coarse: true})
}

// services are version 2, as on github.com. The token of a branch's build writes the branch, and
// reads it and main.
func services(t *testing.T) func(*testing.T) store {
	t.Helper()
	storage, registry := testkit.StartAzblob(t), testkit.StartRegistry(t)
	return func(t *testing.T) store {
		server := testkit.StartGHAOn(t, storage.New(t))
		refs := []string{"refs/heads/main"}
		tokens := map[string]string{"main": server.Token(refs[0])}
		env := func(branch string) map[string]string {
			if branch == "" {
				return server.Env(server.Token(refs[0], refs[1:]...))
			}
			if tokens[branch] == "" {
				refs = append(refs, "refs/heads/"+branch)
				tokens[branch] = server.Token("refs/heads/"+branch, refs[0])
			}
			return server.Env(tokens[branch])
		}
		return store{
			line: "type=gha", image: registry.Repository(), key: tokens["main"], env: env,
			names: func(testing.TB) []string { return server.Entries("") },
		}
	}
}

// runners are version 1, each the cache of one runner, without branches.
func runners(t *testing.T) func(*testing.T) store {
	t.Helper()
	registry := testkit.StartRegistry(t)
	return func(t *testing.T) store {
		server := testkit.StartGHA1(t)
		return store{
			line: "type=gha,scope=team", image: registry.Repository(), key: server.Token(),
			env:   func(string) map[string]string { return server.Env() },
			names: server.Files,
		}
	}
}
