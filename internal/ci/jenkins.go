package ci

import (
	"regexp"

	"github.com/warmlayer/warmlayer/scope"
)

// A controller whose own address is not configured does not set JENKINS_URL.
var jenkins = Dialect{Name: "jenkins", here: set("JENKINS_URL", "JENKINS_HOME"), facts: jenkinsFacts}

// jenkinsFacts reads a multibranch project of Jenkins; other kinds of jobs set no variable that
// is certain to name their branch. The default branch is known only in its own builds; elsewhere
// it is an input.
// https://www.jenkins.io/doc/book/pipeline/multibranch/, and the Branch API plugin's
// BranchNameContributor.
func jenkinsFacts(h host) scope.Facts {
	f := scope.Facts{
		Branch: h.getenv("BRANCH_NAME"),
		Tag:    h.getenv("TAG_NAME"),
		Commit: h.getenv("GIT_COMMIT"),
		Repo:   repository(h.getenv("GIT_URL")),
		URL:    h.getenv("BUILD_URL"),
	}
	if h.getenv("BRANCH_IS_PRIMARY") == "true" {
		f.Default = h.getenv("BRANCH_NAME")
	}
	switch {
	case h.knows("CHANGE_ID", "CHANGE_BRANCH", "CHANGE_TARGET", "CHANGE_FORK"), h.knows(gerritVariables...), jenkinsChange.MatchString(f.Branch):
		f.Branch, f.Base = h.getenv("CHANGE_BRANCH"), h.getenv("CHANGE_TARGET")
		judgePull(&f, pullNumber(h.getenv("CHANGE_ID")), jenkinsUntrusted(h))
	case f.Tag != "":
		f.Branch = "" // it holds the tag
		judgeRef(&f)
	default:
		judgeRef(&f)
	}
	return f
}

// gerritVariables name a change of Gerrit, which everyone with an account can push. They are set
// by the plugins gerrit-code-review (GerritEnvironmentContributor) and gerrit-trigger.
var gerritVariables = []string{"GERRIT_CHANGE_NUMBER", "GERRIT_CHANGE_ID", "GERRIT_PATCHSET_NUMBER", "GERRIT_REFSPEC"}

// jenkinsChange matches the names of changes as multibranch projects have them in BRANCH_NAME:
// PR-7, PR-7-head, MR-7-merge, and Gerrit's 45/12345/3.
var jenkinsChange = regexp.MustCompile(`^(PR|MR)-[0-9]+(-head|-merge)?$|^[0-9]+/[0-9]+/[0-9]+$`)

// jenkinsUntrusted says why a change may not be the repository's own. CHANGE_FORK is set for
// forks alone, by sources that know forks. A source that does not know them, Gerrit's, has one
// name for a change's head and its target.
func jenkinsUntrusted(h host) string {
	head := h.getenv("CHANGE_BRANCH")
	switch {
	case h.getenv("CHANGE_FORK") != "":
		return scope.Fork
	case h.knows(gerritVariables...):
		return "a change of Gerrit, which may be anyone's; trusted: true overrides"
	case head == "" || head == h.getenv("CHANGE_TARGET"):
		return "a change whose head branch is not known; trusted: true overrides"
	}
	return ""
}
