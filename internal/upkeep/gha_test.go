package upkeep

import (
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// TestGHA: GitHub's API shows the scopes of all refs; a prune removes everything of a ref that is gone, former versions of an index, and
// nothing else.
func TestGHA(t *testing.T) {
	t.Parallel()
	server := testkit.StartGHA(t)
	cacheLine := "gha"
	job := func(ref string) (Cache, backends.Store) {
		env := server.Env(server.Token(ref))
		env["GITHUB_REPOSITORY"], env["GITHUB_API_URL"] = testkit.Repository, strings.TrimSuffix(env["ACTIONS_RESULTS_URL"], "/")
		return opened(t, cachespec.Environment{Getenv: func(name string) string { return env[name] }}, cacheLine)
	}
	c, main := job("refs/heads/main")
	_, old := job("refs/heads/old")
	_, pull := job("refs/pull/7/merge")
	now := time.Now()
	populate(t, main, "b-main", backends.Record{Time: now}, "base", "main's own")
	populate(t, main, "b-main", backends.Record{Time: now, Commit: "2"}, "base", "main's second")
	populate(t, main, "b-main.worker", backends.Record{Time: now}, "base")
	populate(t, old, "b-old", backends.Record{Time: now}, "old's own")
	populate(t, pull, "pr-7", backends.Record{Time: now}, "of the pull request")
	stock := take(t, c)
	if got := names(stock); !sameWords(got, "b-main b-main.worker b-old pr-7") {
		t.Fatalf("scopes %s of %v", got, server.Entries(""))
	}
	if s := stock.find("b-old"); s.Own < int64(len("old's own")) || s.Layers != 1 || s.Used.IsZero() {
		t.Errorf("%+v", s)
	}
	// Another cache of the repository, on a branch of its own and on one that is gone: it stays, with the blobs that it may name.
	cacheLine = "type=gha,scope=other"
	_, others := job("refs/heads/others")
	_, oldOthers := job("refs/heads/both")
	cacheLine = "gha"
	_, both := job("refs/heads/both")
	populate(t, others, "b-others", backends.Record{}, "another cache's")
	populate(t, oldOthers, "b-both", backends.Record{}, "of both")
	populate(t, both, "b-both", backends.Record{Time: now}, "of both")
	refs := Refs{names: map[scope.Name]bool{"b-main": true}, pulls: map[int]bool{}}
	rules := Rules{Gone: true, Grace: time.Hour}
	before := server.Entries("")
	opened := Refs{names: refs.names, pulls: map[int]bool{7: true}}
	if done := prune(t, c, rules, opened); len(done.Removed) > 0 || len(server.Entries("")) != len(before) {
		t.Errorf("with grace: %+v", done)
	}
	rules.Grace, rules.Dry = time.Nanosecond, true
	dry := prune(t, c, rules, refs)
	if len(dry.Removed) != 3 || len(server.Entries("")) != len(before) {
		t.Errorf("a dry run: %+v", dry)
	}
	rules.Dry = false
	if done := prune(t, c, rules, refs); len(done.Removed) != 3 {
		t.Errorf("%+v", done)
	}
	stays := 0
	for _, e := range server.Entries("") {
		if strings.HasPrefix(e, "refs/heads/others ") || strings.HasPrefix(e, "refs/heads/both ") {
			stays++
			if strings.Contains(e, "index-buildkit-") {
				t.Errorf("%s is left", e)
			}
			continue
		}
		if !strings.HasPrefix(e, "refs/heads/main ") || strings.HasPrefix(e, "refs/heads/main index-") && strings.HasSuffix(e, "#1") && !strings.Contains(e, "worker") {
			t.Errorf("%s is left", e)
		}
	}
	if has(t, others, "another cache's") == "" || has(t, oldOthers, "of both") == "" || stays < 4 {
		t.Errorf("another cache lost something: %v", server.Entries(""))
	}
	if m, err := main.Manifest(t.Context(), "b-main"); err != nil || m.Record.Commit != "2" || has(t, main, "base", "main's own", "main's second") == "" {
		t.Errorf("main's cache: %v", err)
	}
}
