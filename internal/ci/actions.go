package ci

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/warmlayer/warmlayer/scope"
)

// actions is a CI that runs GitHub's workflows, recognised by a variable. The commands
// in its log are those of docs.github.com, "Workflow commands".
func actions(name, variable string, facts func(host) scope.Facts) Dialect {
	return Dialect{
		Name: name, here: set(variable), facts: facts,
		log: log{begin: githubBegin, end: githubEnd, mask: githubMask, note: githubNote},
		job: githubJob, repository: githubRepository, remote: githubRemote, run: func(h host) string { return h.getenv("GITHUB_RUN_ID") }, pulls: githubPulls,
	}
}

// The commands escape as GitHub's toolkit does (packages/core/src/command.ts).
var (
	githubEscapes         = strings.NewReplacer("%", "%25", "\n", "%0A")
	githubPropertyEscapes = strings.NewReplacer("%", "%25", ":", "%3A", ",", "%2C")
)

func githubBegin(s Section) string { return "::group::" + s.Title + "\n" }

func githubEnd(Section, time.Time, bool) string { return "::endgroup::\n" }

func githubMask(line string) string { return "::add-mask::" + githubEscapes.Replace(line) + "\n" }

// githubNote writes
//
//	::warning file=Dockerfile,line=3,endLine=3,title=StageNameCasing::Stage name 'Base' should be lowercase
//	::error file=app/Dockerfile,line=7,endLine=8,title=RUN make::exit code: 2%0Amake: no rule
//	::error title=warmlayer::no BuildKit answers
func githubNote(n Note) string {
	place := ""
	if n.File != "" {
		place = "file=" + githubPropertyEscapes.Replace(n.File) + ","
	}
	if n.Line > 0 {
		place += fmt.Sprintf("line=%d,endLine=%d,", n.Line, max(n.Line, n.EndLine))
	}
	return fmt.Sprintf("::%s %stitle=%s::%s\n",
		n.Level, place, githubPropertyEscapes.Replace(n.Title), githubEscapes.Replace(strings.Join(n.Message, "\n")))
}

// githubOutputs are outputs in the form of the file that GITHUB_OUTPUT names:
//
//	first-miss<<warmlayer_K5QW…
//	[build 2/4] RUN make
//	warmlayer_K5QW…
//
// A new random delimiter for each value keeps a value from ending early and defining
// outputs of its own (docs.github.com, "Workflow commands", multiline strings).
func githubOutputs(outputs []Output) string {
	var b strings.Builder
	for _, o := range outputs {
		d := delimiter(o.Value)
		fmt.Fprintf(&b, "%s<<%s\n%s\n%s\n", o.Name, d, o.Value, d)
	}
	return b.String()
}

func delimiter(value string) string {
	for {
		if d := "warmlayer_" + rand.Text(); !strings.Contains(value, d) {
			return d
		}
	}
}

// appendTo adds to a file that other steps, or the runner, may have begun; a path of "" is none.
func appendTo(path, content string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}

// githubJob tells runs of a job apart on all servers and in all their attempts, and the jobs of a
// matrix, for which these variables are equal, by the machine's directory of the files that steps
// write for the runner. On GitHub it is one of the runner, which has one job at a time
// (ContainerActionHandler.cs in actions/runner). act, and with it the runners of Gitea and Forgejo,
// which run several jobs at once, make one for each job (GetBindsAndMounts in pkg/runner/run_context.go).
// The name of a runner alone says little: it is the machine's unless someone chose another.
func githubJob(h host, source func(path string) string) (id, runner string) {
	if h.getenv("GITHUB_RUN_ID") == "" {
		return "", ""
	}
	place := source(h.getenv("GITHUB_OUTPUT"))
	var parts []string
	for _, name := range []string{"GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB", "RUNNER_NAME"} {
		parts = append(parts, h.getenv(name))
	}
	if name := h.getenv("RUNNER_NAME"); name != "" && place != "" {
		runner = name + " " + place
	}
	return strings.Join(append(parts, place), " "), runner
}

const githubServer = "https://github.com"

// server is the GitHub server's URL: github.com where no other is named, whatever the CI.
func (d Dialect) server() string {
	return strings.TrimRight(cmp.Or(d.host.getenv("GITHUB_SERVER_URL"), githubServer), "/")
}

// githubRepository has the commit that runs as docker/build-push-action has it (src/context.ts
// in docker/actions-toolkit).
func githubRepository(h host) Repository {
	event, _ := readPayload(h)
	private := event.Repository.Private
	r := Repository{Actions: true, Public: private != nil && !*private}
	if repository := h.getenv("GITHUB_REPOSITORY"); repository != "" {
		r.Context = (Dialect{host: h}).server() + "/" + repository + ".git"
		if ref := githubCommit(h); ref != "" {
			r.Context += "#" + ref
		}
	}
	return r
}

// githubCommit is the commit; for a pull request the ref of its merge with its base, which is
// the only one to be fetched. A switch of the action's takes the pull request alone.
func githubCommit(h host) string {
	ref := h.getenv("GITHUB_REF")
	if !strings.HasPrefix(ref, "refs/pull/") {
		return cmp.Or(h.getenv("GITHUB_SHA"), ref)
	}
	if merge, ok := strings.CutSuffix(ref, "/merge"); ok && h.getenv("DOCKER_DEFAULT_GIT_CONTEXT_PR_HEAD_REF") == "true" {
		return merge + "/head"
	}
	return ref
}
