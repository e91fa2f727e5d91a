package ci

import "github.com/warmlayer/warmlayer/scope"

var woodpecker = Dialect{Name: "woodpecker", here: onWoodpecker, facts: woodpeckerFacts}

// onWoodpecker tells Woodpecker by the value of a variable that every CI sets.
func onWoodpecker(h host) bool { return h.getenv("CI") == "woodpecker" }

// woodpeckerFacts reads Woodpecker CI. CI_COMMIT_BRANCH is a pull request's target.
// https://woodpecker-ci.org/docs/usage/environment
func woodpeckerFacts(h host) scope.Facts {
	f := scope.Facts{
		Event:   h.getenv("CI_PIPELINE_EVENT"),
		Default: h.getenv("CI_REPO_DEFAULT_BRANCH"),
		Commit:  h.getenv("CI_COMMIT_SHA"),
		Repo:    h.getenv("CI_REPO"),
		URL:     h.getenv("CI_PIPELINE_URL"),
	}
	switch number := h.getenv("CI_COMMIT_PULL_REQUEST"); {
	case number != "" || f.Event == "pull_request":
		f.Branch, f.Base = h.getenv("CI_COMMIT_SOURCE_BRANCH"), h.getenv("CI_COMMIT_TARGET_BRANCH")
		judgePull(&f, pullNumber(number), perhapsFork)
	case f.Event == "push" || f.Event == "cron" || f.Event == "manual":
		f.Branch = h.getenv("CI_COMMIT_BRANCH")
		judgeRef(&f)
	case f.Event == "tag" || f.Event == "release":
		f.Tag = h.getenv("CI_COMMIT_TAG")
		judgeRef(&f)
	default:
		judgeEvent(&f)
	}
	return f
}
