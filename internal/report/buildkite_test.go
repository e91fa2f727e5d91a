package report

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeAgent stands for buildkite-agent, which does nothing outside a job of a real agent. It
// records its arguments and its standard input, in the order in which it is called, and
// fails when FAIL is set. What it is called with is documented for agent v3:
// buildkite.com/docs/agent/v3/cli-redactor and cli-annotate.
const fakeAgent = `#!/bin/sh
echo "$*" >> "$CALLS" && cat >> "$CALLS" && echo >> "$CALLS"
if [ -n "$FAIL" ]; then echo "401 Unauthorized" >&2; exit 1; fi
`

func startAgent(t *testing.T, environ ...string) (agent Agent, calls string) {
	t.Helper()
	dir := t.TempDir()
	agent, calls = Agent{Path: filepath.Join(dir, "buildkite-agent")}, filepath.Join(dir, "calls")
	agent.Environ = append(environ, "CALLS="+calls, "PATH=/usr/bin:/bin")
	if err := os.WriteFile(agent.Path, []byte(fakeAgent), 0o700); err != nil {
		t.Fatal(err)
	}
	return agent, calls
}

func TestAgentRedacts(t *testing.T) {
	t.Parallel()
	agent, calls := startAgent(t)
	if err := agent.Redact(t.Context(), []string{"a \"quoted\" one", "first line\nsecond line", "abc"}); err != nil {
		t.Fatal(err)
	}
	want := "redactor add --format json\n" + `{"0":"a \"quoted\" one","1":"first line","2":"second line"}` + "\n"
	if got := read(t, calls); got != want {
		t.Errorf("called with\n%swant\n%s", got, want)
	}
	if err := agent.Redact(t.Context(), []string{"", "abc"}); err != nil || read(t, calls) != want {
		t.Errorf("called for nothing: %v\n%s", err, read(t, calls))
	}
}

func TestAgentAnnotates(t *testing.T) {
	t.Parallel()
	agent, calls := startAgent(t)
	warm, failed := reports()["warm"], reports()["failed"]
	warm.Plan.Key = "worker"
	warned := warm
	warned.Warnings = []string{"careful"}
	for _, r := range []Report{warm, warned, failed} {
		if err := agent.Annotate(t.Context(), r, "018f-4c2e", same); err != nil {
			t.Fatal(err)
		}
	}
	want := "annotate --style success --context warmlayer-worker-018f-4c2e\n" + warm.Markdown() +
		"\nannotate --style warning --context warmlayer-worker-018f-4c2e\n" + warned.Markdown() +
		"\nannotate --style error --context warmlayer-018f-4c2e\n" + failed.Markdown() + "\n"
	if got := read(t, calls); got != want {
		t.Errorf("called with\n%swant\n%s", got, want)
	}
	hidden := failed
	hidden.Err = errors.New("canary")
	if err := agent.Annotate(t.Context(), hidden, "", func(s string) string { return strings.ReplaceAll(s, "canary", mask) }); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(read(t, calls), "canary") {
		t.Error("the annotation shows a secret")
	}
}

func TestAgentFails(t *testing.T) {
	t.Parallel()
	agent, _ := startAgent(t, "FAIL=yes")
	err := agent.Redact(t.Context(), []string{"secret"})
	if err == nil || !strings.HasPrefix(err.Error(), "buildkite-agent redactor: ") || !strings.HasSuffix(err.Error(), ": 401 Unauthorized") {
		t.Errorf("error %v", err)
	}
}
