package report

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// agentTimeout bounds what is asked of Buildkite's agent: no build waits for its page.
const agentTimeout = 30 * time.Second

// Agent is Buildkite's agent, as a job sees it: the program buildkite-agent, and the job's
// environment, in which it finds the job and its token.
type Agent struct {
	Path    string
	Environ []string
}

// Redact makes the agent hide secrets, line by line, in the job's log. They go to it over
// its standard input (buildkite.com/docs/agent/v3/cli-redactor).
func (a Agent) Redact(ctx context.Context, secrets []string) error {
	values := map[string]string{}
	for i, line := range secretLines(secrets) {
		values[strconv.Itoa(i)] = line
	}
	if len(values) == 0 {
		return nil
	}
	return a.run(ctx, compact(values), "redactor", "add", "--format", "json")
}

// Annotate shows the report on the build's page, with all that redact hides hidden. There
// it takes the place of what the same job, by its ID, has said about the same image
// (buildkite.com/docs/agent/v3/cli-annotate).
func (a Agent) Annotate(ctx context.Context, r Report, job string, redact func(string) string) error {
	r = r.redacted(redact)
	where, style := r.annotation(job)
	return a.run(ctx, r.Markdown(), "annotate", "--style", style, "--context", where)
}

// annotation is the context and the style of the report's annotation.
func (r Report) annotation(job string) (where, style string) {
	where = strings.Join(strings.Fields("warmlayer "+r.Plan.Key+" "+job), "-")
	switch {
	case r.Err != nil:
		return where, "error"
	case len(r.warnings()) > 0:
		return where, "warning"
	}
	return where, "success"
}

// run has the agent do something with what it reads. What it says comes with the error.
func (a Agent) run(ctx context.Context, stdin string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, a.Path, args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = a.Environ, strings.NewReader(stdin), &said, &said
	cmd.WaitDelay = time.Second // for what it has started itself
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("buildkite-agent %s: %w: %s", args[0], err, short(said.String(), longestCell))
	}
	return nil
}
