package conformance

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestGHA(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openGHA, object: true})
}

func TestGHARemote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openGHA, object: true, gzip: true, remote: true})
}

func TestGHA1(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openGHA1, object: true})
}

func TestGHA1Remote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openGHA1, object: true, gzip: true, remote: true})
}

// openGHA is version 2 of the service, as github.com has it. The token of a branch's build
// writes the branch, and reads it and main.
func openGHA(t *testing.T) store {
	t.Helper()
	server := testkit.StartGHA(t)
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
		line: "type=gha", image: testkit.StartRegistry(t).Host + "/app", key: tokens["main"], env: env,
		names: func(testing.TB) []string { return server.Entries("") },
	}
}

// openGHA1 is version 1, a runner's own cache, which knows no branches.
func openGHA1(t *testing.T) store {
	t.Helper()
	server := testkit.StartGHA1(t)
	return store{
		line: "type=gha,scope=team", image: testkit.StartRegistry(t).Host + "/app", key: server.Token(),
		env:   func(string) map[string]string { return server.Env() },
		names: server.Files,
	}
}
