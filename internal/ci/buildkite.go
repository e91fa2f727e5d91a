package ci

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

var buildkite = Dialect{
	Name: "buildkite", here: set("BUILDKITE"), facts: buildkiteFacts,
	log: log{begin: buildkiteBegin, end: buildkiteEnd}, hide: buildkiteHide, show: buildkiteShow, remote: variable("BUILDKITE_REPO"),
	run: variable("BUILDKITE_BUILD_ID"),
}

// buildkiteFacts reads Buildkite.
// https://buildkite.com/docs/pipelines/configure/environment-variables
// https://buildkite.com/docs/pipelines/tutorials/github-merge-queue
func buildkiteFacts(h host) scope.Facts {
	f := scope.Facts{
		Event:   h.getenv("BUILDKITE_SOURCE"),
		Branch:  h.getenv("BUILDKITE_BRANCH"),
		Default: h.getenv("BUILDKITE_PIPELINE_DEFAULT_BRANCH"),
		Tag:     h.getenv("BUILDKITE_TAG"),
		Commit:  h.getenv("BUILDKITE_COMMIT"),
		Repo:    repository(h.getenv("BUILDKITE_REPO")),
		URL:     h.getenv("BUILDKITE_BUILD_URL"),
	}
	if f.Tag != "" {
		f.Branch = "" // it holds the tag
	}
	if number := h.getenv("BUILDKITE_PULL_REQUEST"); number != "false" {
		f.PR = numberOrUnknown(pullNumber(number))
		f.Base = h.getenv("BUILDKITE_PULL_REQUEST_BASE_BRANCH")
	}
	queue, named := h.getenv("BUILDKITE_MERGE_QUEUE_BASE_BRANCH"), queueBase(f.Branch)
	started := slices.Contains(buildkiteSources, f.Event) && h.getenv("BUILDKITE_TRIGGERED_FROM_BUILD_ID") == ""
	from := repository(h.getenv("BUILDKITE_PULL_REQUEST_REPO"))
	switch {
	case queue != "" && f.PR == 0 && started:
		judgeQueue(&f, queue)
	case queue != "" || named != "":
		judgeNamedQueue(&f, cmp.Or(queue, named))
	case f.PR == scope.UnknownPR:
		// Never empty on Buildkite: a container that was not given the variable may build anything.
		f.Untrusted = scope.UnknownNumber
	case f.PR != 0 && from == "":
		f.Untrusted = "a pull request whose repository is not known"
	case f.PR != 0 && from != f.Repo:
		f.Untrusted = scope.Fork
	case f.Branch == "" && f.Tag == "":
		f.Untrusted = noRef
	case !started:
		f.Untrusted = buildkiteStarted
	default:
		f.Trusted = true
		f.MayQueue = f.PR == 0 && f.Branch != ""
	}
	return f
}

// buildkiteSources are the values of BUILDKITE_SOURCE whose builds have a branch's code, or a
// pull request's that is named as such. Builds of a trigger step (trigger_job) and of the API have
// whatever commit their caller names, which may be that of a fork's pull request, and the
// variables of no pull request.
var buildkiteSources = []string{"webhook", "ui", "schedule"}

const buildkiteStarted = "a trigger step, the API or an unknown source started this build, perhaps with a fork's commit; trusted: true overrides"

// buildkiteBegin begins a group that is folded away:
// buildkite.com/docs/pipelines/configure/managing-log-output.
func buildkiteBegin(s Section) string { return "--- " + s.Title + "\n" }

// buildkiteEnd begins the next group, which is open, since a group lasts until the next one. It
// opens one that failed.
func buildkiteEnd(_ Section, _ time.Time, failed bool) string {
	end := "+++ Report\n"
	if failed {
		end = "^^^ +++\n" + end
	}
	return end
}

// agent is Buildkite's program buildkite-agent, as a job sees it, with the job's environment,
// in which it finds the job and its token.
type agent struct {
	path    string
	environ []string
}

// findAgent finds the agent where a job's environment and PATH have it.
func findAgent(h host) (agent, bool) {
	if h.getenv("BUILDKITE_AGENT_ACCESS_TOKEN") == "" {
		return agent{}, false
	}
	path, err := exec.LookPath("buildkite-agent")
	return agent{path, h.environ}, err == nil
}

// buildkiteHide hands secrets to the agent over its standard input
// (buildkite.com/docs/agent/v3/cli-redactor).
func buildkiteHide(ctx context.Context, h host, lines []string) error {
	a, ok := findAgent(h)
	if !ok {
		return nil
	}
	return a.redact(ctx, lines)
}

func (a agent) redact(ctx context.Context, lines []string) error {
	values := map[string]string{}
	for i, line := range lines {
		values[strconv.Itoa(i)] = line
	}
	text, err := json.Marshal(values)
	if err != nil {
		return err
	}
	return a.run(ctx, string(text), "redactor", "add", "--format", "json")
}

// buildkiteShow puts a report on the build's page. There it takes the place of what the same
// job has said about the same image (buildkite.com/docs/agent/v3/cli-annotate).
func buildkiteShow(ctx context.Context, h host, p Page) error {
	a, ok := findAgent(h)
	if !ok {
		return nil
	}
	return a.annotate(ctx, h.getenv("BUILDKITE_JOB_ID"), p)
}

func (a agent) annotate(ctx context.Context, job string, p Page) error {
	place := strings.Join(strings.Fields("warmlayer "+p.Key+" "+job), "-")
	return a.run(ctx, p.Markdown, "annotate", "--style", p.Level, "--context", place)
}

// agentTimeout bounds each call of the agent, so that no build waits for its page.
const agentTimeout = 30 * time.Second

// longestMessage is the length, in characters, at which the agent's output is cut in an error.
const longestMessage = 300

// run runs the agent with a standard input. The error contains its output.
func (a agent) run(ctx context.Context, stdin string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, a.path, args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = a.environ, strings.NewReader(stdin), &said, &said
	cmd.WaitDelay = time.Second // for what it has started itself
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("buildkite-agent %s: %w: %s", args[0], err, syntax.Short(said.String(), longestMessage))
	}
	return nil
}
