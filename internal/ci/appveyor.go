package ci

import (
	"strings"

	"github.com/warmlayer/warmlayer/scope"
)

var appveyor = Dialect{Name: "appveyor", here: set("APPVEYOR"), facts: appveyorFacts}

// appveyorFacts reads AppVeyor, which does not know the default branch: it is an input.
// APPVEYOR_REPO_BRANCH is a pull request's target.
// https://www.appveyor.com/docs/environment-variables/
func appveyorFacts(h host) scope.Facts {
	f := scope.Facts{
		Tag:    h.getenv("APPVEYOR_REPO_TAG_NAME"),
		Commit: h.getenv("APPVEYOR_REPO_COMMIT"),
		Repo:   h.getenv("APPVEYOR_REPO_NAME"),
		URL:    appveyorRun(h),
	}
	if h.knows("APPVEYOR_PULL_REQUEST_NUMBER", "APPVEYOR_PULL_REQUEST_HEAD_REPO_NAME", "APPVEYOR_PULL_REQUEST_HEAD_REPO_BRANCH") {
		f.Branch, f.Base = h.getenv("APPVEYOR_PULL_REQUEST_HEAD_REPO_BRANCH"), h.getenv("APPVEYOR_REPO_BRANCH")
		judgePull(&f, pullNumber(h.getenv("APPVEYOR_PULL_REQUEST_NUMBER")), unlessSame(h.getenv("APPVEYOR_PULL_REQUEST_HEAD_REPO_NAME"), f.Repo))
		return f
	}
	if f.Tag == "" {
		f.Branch = h.getenv("APPVEYOR_REPO_BRANCH")
	}
	judgeRef(&f)
	return f
}

func appveyorRun(h host) string {
	server, account := h.getenv("APPVEYOR_URL"), h.getenv("APPVEYOR_ACCOUNT_NAME")
	project, build := h.getenv("APPVEYOR_PROJECT_SLUG"), h.getenv("APPVEYOR_BUILD_ID")
	if server == "" || account == "" || project == "" || build == "" {
		return ""
	}
	return strings.TrimSuffix(server, "/") + "/project/" + account + "/" + project + "/builds/" + build
}
