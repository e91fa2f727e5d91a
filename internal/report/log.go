package report

import (
	"fmt"
	"strings"
	"time"
)

// Section is a part of a job's log that is folded away where the CI, named as in
// scope.Facts, can fold; elsewhere it shows nothing of itself. Its title is one line.
type Section struct {
	CI, Title string
	Began     time.Time
}

// Begin is what the log says before the section.
//
//   - GitHub, and Gitea and Forgejo after it: docs.github.com, "Workflow commands", grouping log lines.
//   - GitLab: docs.gitlab.com, "Custom collapsible sections". Every section needs a name of its own.
//   - Buildkite: buildkite.com/docs/pipelines/configure/managing-log-output.
//   - Azure: learn.microsoft.com, "Logging commands", formatting commands.
func (s Section) Begin() string {
	switch s.CI {
	case "github", "gitea", "forgejo":
		return "::group::" + s.Title + "\n"
	case "gitlab":
		return fmt.Sprintf("\x1b[0Ksection_start:%d:%s[collapsed=true]\r\x1b[0K%s\n", s.Began.Unix(), s.name(), s.Title)
	case "buildkite":
		return "--- " + s.Title + "\n"
	case "azure":
		return "##[group]" + s.Title + "\n"
	}
	return ""
}

// End is what it says after it. On Buildkite, where a section lasts until the next one,
// the report's begins, which is open, and one that failed is opened.
func (s Section) End(now time.Time, failed bool) string {
	switch s.CI {
	case "github", "gitea", "forgejo":
		return "::endgroup::\n"
	case "gitlab":
		return fmt.Sprintf("\x1b[0Ksection_end:%d:%s\r\x1b[0K\n", now.Unix(), s.name())
	case "buildkite":
		end := "+++ Report\n"
		if failed {
			end = "^^^ +++\n" + end
		}
		return end
	case "azure":
		return "##[endgroup]\n"
	}
	return ""
}

func (s Section) name() string { return fmt.Sprintf("warmlayer_%d", s.Began.UnixNano()) }

// Masks are the commands that make a runner hide secrets in the log of the whole job, and
// so hold the secrets themselves: they are for the runner alone, and "" where no runner
// obeys them. One command hides one line; lines too short to hide anything are left out.
// (docs.github.com, "Workflow commands", masking a value; learn.microsoft.com, "Logging
// commands", setsecret.)
func Masks(ci string, secrets []string) string {
	command, escapes := "", dataEscapes
	switch ci {
	case "github", "gitea", "forgejo":
		command = "::add-mask::"
	case "azure":
		command, escapes = "##vso[task.setsecret]", azureEscapes
	default:
		return ""
	}
	var b strings.Builder
	for _, line := range secretLines(secrets) {
		b.WriteString(command + escapes.Replace(line) + "\n")
	}
	return b.String()
}

// secretLines are the lines of secrets that are long enough to be hidden.
func secretLines(secrets []string) []string {
	var lines []string
	for _, secret := range secrets {
		for line := range strings.FieldsFuncSeq(secret, func(c rune) bool { return c == '\n' || c == '\r' }) {
			if line = strings.TrimSpace(line); len(line) >= shortest {
				lines = append(lines, line)
			}
		}
	}
	return lines
}
