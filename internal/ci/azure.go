package ci

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

var azure = Dialect{
	Name: "azure", here: set("TF_BUILD"), facts: azureFacts, publish: azurePublish,
	log: log{begin: azureBegin, end: azureEnd, mask: azureMask, note: azureNote},
}

// azureFacts reads Azure Pipelines, which does not know the default branch: it is an input.
// https://learn.microsoft.com/azure/devops/pipelines/build/variables
func azureFacts(h host) scope.Facts {
	f := scope.Facts{
		Event:  h.getenv("BUILD_REASON"),
		Commit: h.getenv("BUILD_SOURCEVERSION"),
		Repo:   repository(h.getenv("BUILD_REPOSITORY_URI")),
		URL:    azureRun(h),
	}
	ref := h.getenv("BUILD_SOURCEBRANCH")
	pull, isPull := strings.CutPrefix(ref, "refs/pull/")
	pull, _, _ = strings.Cut(pull, "/")
	number := cmp.Or(h.getenv("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER"), h.getenv("SYSTEM_PULLREQUEST_PULLREQUESTID"))
	switch {
	case isPull || number != "" || f.Event == "PullRequest":
		f.Branch = azureBranch(h.getenv("SYSTEM_PULLREQUEST_SOURCEBRANCH"))
		f.Base = azureBranch(h.getenv("SYSTEM_PULLREQUEST_TARGETBRANCH"))
		if !isPull {
			pull = ""
		}
		judgePull(&f, pullNumber(cmp.Or(number, pull)), azureUntrusted(h))
	case f.Event == "Manual" || f.Event == "IndividualCI" || f.Event == "BatchedCI" || f.Event == "Schedule":
		if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
			f.Branch = branch
		} else if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
			f.Tag = tag
		}
		judgeRef(&f)
	default: // another pipeline's end, which may have built a fork's pull request
		judgeEvent(&f)
	}
	return f
}

// azureBranch is a branch without refs/heads/, which stands before those of Azure Repos alone.
func azureBranch(ref string) string { return strings.TrimPrefix(ref, "refs/heads/") }

// azureUntrusted says why a pull request's code may be a fork's; "": a variable says that it is not.
func azureUntrusted(h host) string {
	switch strings.ToLower(h.getenv("SYSTEM_PULLREQUEST_ISFORK")) {
	case "false":
		return ""
	case "true":
		return scope.Fork
	}
	return "a pull request that may be a fork's"
}

func azureRun(h host) string {
	collection, project, build := h.getenv("SYSTEM_COLLECTIONURI"), h.getenv("SYSTEM_TEAMPROJECTID"), h.getenv("BUILD_BUILDID")
	if collection == "" || project == "" || build == "" {
		return ""
	}
	return strings.TrimSuffix(collection, "/") + "/" + project + "/_build/results?buildId=" + build
}

// The commands in the log are those of learn.microsoft.com, "Logging commands". They escape as
// Azure's task library does (azure-pipelines-task-lib, node/taskcommand.ts).
var (
	azureEscapes         = strings.NewReplacer("%", "%AZP25", "\r", "%0D", "\n", "%0A")
	azurePropertyEscapes = strings.NewReplacer("%", "%AZP25", "\r", "%0D", "\n", "%0A", "]", "%5D", ";", "%3B")
)

func azureBegin(s Section) string { return "##[group]" + s.Title + "\n" }

func azureEnd(Section, time.Time, bool) string { return "##[endgroup]\n" }

func azureMask(line string) string {
	return "##vso[task.setsecret]" + azureEscapes.Replace(line) + "\n"
}

// azureNote is one line. It has the beginning of a place, without its end:
//
//	##vso[task.logissue type=warning;sourcepath=Dockerfile;linenumber=3;code=StageNameCasing]Stage name …
func azureNote(n Note) string {
	place := ""
	if n.File != "" {
		place = "sourcepath=" + azurePropertyEscapes.Replace(n.File) + ";"
	}
	if n.Line > 0 {
		place += fmt.Sprintf("linenumber=%d;", n.Line)
	}
	return fmt.Sprintf("##vso[task.logissue type=%s;%scode=%s]%s\n",
		n.Level, place, azurePropertyEscapes.Replace(n.Title), azureEscapes.Replace(strings.Join(n.Message, " — ")))
}

// longestVariable is the size, in bytes, of the longest output that becomes a variable. Azure's agent
// puts every variable into the environment of every later step, which is limited to 32 KiB on Windows.
const longestVariable = 8 << 10

// azurePublish shows the summary on the run's page, from a file that the agent must be able to read,
// and passes the outputs to later steps as variables of this step: $(NAME.WARMLAYER_DIGEST), where
// NAME is the name of the step. An output that is too long is left out.
func azurePublish(_ host, log io.Writer, p Page) error {
	var b strings.Builder
	for _, o := range p.Outputs {
		if len(o.Value) <= longestVariable {
			fmt.Fprintf(&b, "##vso[task.setvariable variable=%s;isoutput=true]%s\n", o.Variable(), azureEscapes.Replace(syntax.Line(o.Value)))
		}
	}
	if p.File != "" {
		fmt.Fprintf(&b, "##vso[task.uploadsummary]%s\n", p.File)
	}
	_, err := io.WriteString(log, b.String())
	return err
}
