package ci

import "github.com/warmlayer/warmlayer/scope"

var jenkins = Dialect{Name: "jenkins", here: set("JENKINS_URL"), facts: jenkinsFacts}

// jenkinsFacts reads a multibranch project of Jenkins; other kinds of jobs set no variable that
// is certain to name their branch. The default branch is known only in its own builds; elsewhere
// it is an input.
// https://www.jenkins.io/doc/book/pipeline/multibranch/, and the Branch API plugin's
// BranchNameContributor: CHANGE_FORK is set for forks alone.
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
	case h.knows("CHANGE_ID", "CHANGE_BRANCH", "CHANGE_TARGET", "CHANGE_FORK"):
		f.Branch, f.Base = h.getenv("CHANGE_BRANCH"), h.getenv("CHANGE_TARGET")
		untrusted := ""
		if h.getenv("CHANGE_FORK") != "" {
			untrusted = fork
		}
		judgePull(&f, pullNumber(h.getenv("CHANGE_ID")), untrusted)
	case f.Tag != "":
		f.Branch = "" // it holds the tag
		judgeRef(&f)
	default:
		judgeRef(&f)
	}
	return f
}
