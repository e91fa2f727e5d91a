package conformance

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// github is a job on GitHub for an event on a ref of a repository whose default branch is main.
func github(t *testing.T, event, ref string, payload map[string]any) map[string]string {
	t.Helper()
	whole := map[string]any{"repository": map[string]string{"default_branch": "main"}}
	maps.Copy(whole, payload)
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "event.json")
	testkit.Write(t, file, string(text))
	return map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": testkit.Repository, "RUNNER_TEMP": t.TempDir(),
		"GITHUB_EVENT_NAME": event, "GITHUB_EVENT_PATH": file, "GITHUB_REF": ref,
	}
}

// queueRef is the ref of a group in the merge queue of main.
func queueRef(group string) string { return "refs/heads/gh-readonly-queue/main/" + group }

// mergeGroup is a job for a group in the merge queue of main.
func mergeGroup(t *testing.T, group string) map[string]string {
	t.Helper()
	return github(t, "merge_group", queueRef(group), map[string]any{"merge_group": map[string]string{"base_ref": "refs/heads/main"}})
}

// mergeQueue: what one run of a merge queue has built is cached in the next, which has another ref
// (jsr-io/jsr#1539), and in the push to the queue's branch. Each of these runs writes its own scope
// alone. A branch that has only the name of a queue's writes nothing.
func (s suite) mergeQueue(t *testing.T) {
	c, app := s.h.open(t), twoStages(t)
	build := func(env map[string]string) testkit.Report {
		t.Helper()
		r := s.run(t, c, app, "", "--cache", c.line)
		r.Env = maps.Clone(env)
		maps.Copy(r.Env, c.environment("main"))
		return r.Build(t)
	}
	cold := build(mergeGroup(t, "pr-7-1a2b3c"))
	if cold.Cached() != 0 || cold.Source("q-main") != "absent" || cold.Outcome(t) != "written" {
		t.Fatalf("the queue's first run: %d steps cached, sources %v, exports %v", cold.Cached(), cold.Sources, cold.Exports)
	}
	second := build(mergeGroup(t, "pr-8-4d5e6f"))
	allCached(t, second)
	if second.Source("q-main") != "loaded" || second.Source("b-main") != "absent" {
		t.Errorf("the queue's second run: sources %v", second.Sources)
	}

	before := c.names(t)
	named := build(github(t, "push", queueRef("pr-9-7a8b9c"), nil))
	allCached(t, named)
	if after := c.names(t); len(named.Exports) > 0 || !slices.Equal(before, after) {
		t.Errorf("a branch with a queue's name: exports %v, and the store has %v, want %v", named.Exports, after, before)
	}

	push := build(github(t, "push", "refs/heads/main", nil))
	allCached(t, push)
	if push.Source("b-main") != "absent" || push.Source("q-main") != "loaded" || push.Outcome(t) != "written" {
		t.Errorf("the push: sources %v, exports %v", push.Sources, push.Exports)
	}
}
