package scope

// onWoodpecker tells Woodpecker by the value of a variable that every CI sets.
func onWoodpecker(h host) bool { return h.getenv("CI") == "woodpecker" }

// woodpecker reads Woodpecker CI. CI_COMMIT_BRANCH is a pull request's target.
// https://woodpecker-ci.org/docs/usage/environment
func woodpecker(h host) Facts {
	f := Facts{
		Event:   h.getenv("CI_PIPELINE_EVENT"),
		Default: h.getenv("CI_REPO_DEFAULT_BRANCH"),
		Commit:  h.getenv("CI_COMMIT_SHA"),
		Repo:    h.getenv("CI_REPO"),
		URL:     h.getenv("CI_PIPELINE_URL"),
	}
	switch number := h.getenv("CI_COMMIT_PULL_REQUEST"); {
	case number != "" || f.Event == "pull_request":
		f.Branch, f.Base = h.getenv("CI_COMMIT_SOURCE_BRANCH"), h.getenv("CI_COMMIT_TARGET_BRANCH")
		f.byPull(pullNumber(number), doubtSilent)
	case f.Event == "push" || f.Event == "cron" || f.Event == "manual":
		f.Branch = h.getenv("CI_COMMIT_BRANCH")
		f.byRef()
	case f.Event == "tag" || f.Event == "release":
		f.Tag = h.getenv("CI_COMMIT_TAG")
		f.byRef()
	default:
		f.byEvent()
	}
	return f
}
