package conformance

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// A build that finds more than cache-budget removes what belongs to no branch any more, and not the default branch's cache.
func (s servers) budget(t *testing.T) {
	main := s.newJob(t)
	main.start(t)
	old := main
	old.token, old.env = main.server.Token("refs/heads/old"), push("old")
	testkit.Write(t, filepath.Join(old.app, "site", "index.txt"), "Old\n")
	old.start(t)
	repository := t.TempDir()
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "one"}} {
		git := exec.Command("git", args...)
		git.Dir = repository
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	of := func(ref string) int {
		return len(slices.DeleteFunc(main.server.Entries(""), func(e string) bool { return !strings.HasPrefix(e, ref+" ") }))
	}
	for _, test := range []struct {
		budget string
		left   bool
	}{{"1g", true}, {"1", false}} {
		main.args = []string{"--cache-budget", test.budget, "--grace", "1ms", "--repository", repository, "--default-branch", "main", "--github-token", "canary-of-the-api"}
		out := main.start(t)
		if got := of("refs/heads/old") > 0; got != test.left || of("refs/heads/main") == 0 {
			t.Errorf("budget %s: %v\n%s", test.budget, main.server.Entries(""), out.Text)
		}
	}
}
