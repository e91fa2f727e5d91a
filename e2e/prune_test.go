package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestPruneOfNamesakes: two servers may have a bucket of one name. A prune lists each, and removes from each what is in it.
func TestPruneOfNamesakes(t *testing.T) {
	t.Parallel()
	one, two := testkit.StartS3(t), testkit.StartS3(t)
	app := testkit.App(t)
	for branch, server := range map[string]testkit.S3{"one": one, "two": two} {
		built := testkit.Invocation{Dir: app, Branch: branch, Args: []string{"--outputs", "type=cacheonly", "--builder", "embedded", "--cache", server.Line("")}}
		if got := built.Build(t).Outcome(t); got != "written" {
			t.Fatalf("%s: %s", branch, got)
		}
	}
	cmd := exec.Command(testkit.Program(t), "prune", "--trusted", "--branch", "main", "--default-branch", "main",
		"--scopes", "b-*", "--grace", "1ns", "--cache", one.Line(""), "--cache", two.Line(""))
	cmd.Dir = app
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{"removed  b-one  branch one", "removed  b-two  branch two"} {
		if strings.Count(string(said), want) != 1 {
			t.Errorf("the log has not once %q:\n%s", want, said)
		}
	}
	for _, server := range []testkit.S3{one, two} {
		if left := server.Objects(t, "manifests/"); len(left) > 0 {
			t.Errorf("%s still has %q\n%s", server.Endpoint, left, said)
		}
	}
}
