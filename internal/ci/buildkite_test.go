package ci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Tests that run a program are not parallel: a program cannot be run while a fork of another test
// holds it open for writing.

// fakeAgent replaces buildkite-agent, which does nothing outside a job of a real agent. It
// records its arguments and its standard input, in the order in which it is called, and
// fails when FAIL is set. The expected arguments are those of agent v3:
// buildkite.com/docs/agent/v3/cli-redactor and cli-annotate.
const fakeAgent = `#!/bin/sh
echo "$*" >> "$CALLS" && cat >> "$CALLS" && echo >> "$CALLS"
if [ -n "$FAIL" ]; then echo "401 Unauthorized" >&2; exit 1; fi
`

func startAgent(t *testing.T, environ ...string) (a agent, calls string) {
	t.Helper()
	dir := t.TempDir()
	a, calls = agent{path: filepath.Join(dir, "buildkite-agent")}, filepath.Join(dir, "calls")
	a.environ = append(environ, "CALLS="+calls, "PATH=/usr/bin:/bin")
	if err := os.WriteFile(a.path, []byte(fakeAgent), 0o700); err != nil {
		t.Fatal(err)
	}
	return a, calls
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestAgentRedacts(t *testing.T) {
	a, calls := startAgent(t)
	if err := a.redact(t.Context(), []string{"a \"quoted\" one", "first line", "second line"}); err != nil {
		t.Fatal(err)
	}
	want := "redactor add --format json\n" + `{"0":"a \"quoted\" one","1":"first line","2":"second line"}` + "\n"
	if got := read(t, calls); got != want {
		t.Errorf("called with\n%swant\n%s", got, want)
	}
}

func TestAgentAnnotates(t *testing.T) {
	a, calls := startAgent(t)
	for _, p := range []Page{{Markdown: "one", Level: "success", Key: "my worker"}, {Markdown: "two", Level: "error"}} {
		if err := a.annotate(t.Context(), "018f-4c2e", p); err != nil {
			t.Fatal(err)
		}
	}
	want := "annotate --style success --context warmlayer-my-worker-018f-4c2e\none\n" +
		"annotate --style error --context warmlayer-018f-4c2e\ntwo\n"
	if got := read(t, calls); got != want {
		t.Errorf("called with\n%swant\n%s", got, want)
	}
}

func TestAgentFails(t *testing.T) {
	a, _ := startAgent(t, "FAIL=yes")
	err := a.redact(t.Context(), []string{"secret"})
	if err == nil || !strings.HasPrefix(err.Error(), "buildkite-agent redactor: ") || !strings.HasSuffix(err.Error(), ": 401 Unauthorized") {
		t.Errorf("error %v", err)
	}
}

// Outside a job of an agent, and on all other CIs, no program is called.
func TestNoAgent(t *testing.T) {
	t.Parallel()
	for _, name := range Names() {
		d := dialect(t, name)
		if err := errors.Join(d.Hide(t.Context(), []string{"secret"}), d.Show(t.Context(), Page{Summary: true})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
