package scope

// drone reads Drone. DRONE_BRANCH is a pull request's target. A promotion or a rollback may
// be of any build, a pull request's too.
// https://docs.drone.io/pipeline/environment/reference/
func drone(h host) Facts {
	f := Facts{
		Event:   h.getenv("DRONE_BUILD_EVENT"),
		Default: h.getenv("DRONE_REPO_BRANCH"),
		Commit:  h.getenv("DRONE_COMMIT_SHA"),
		Repo:    h.getenv("DRONE_REPO"),
		URL:     h.getenv("DRONE_BUILD_LINK"),
	}
	switch number := h.getenv("DRONE_PULL_REQUEST"); {
	case number != "" || f.Event == "pull_request":
		f.Branch, f.Base = h.getenv("DRONE_SOURCE_BRANCH"), h.getenv("DRONE_TARGET_BRANCH")
		f.byPull(pullNumber(number), doubtSilent)
	case f.Event == "push" || f.Event == "cron" || f.Event == "custom":
		f.Branch = h.getenv("DRONE_BRANCH")
		f.byRef()
	case f.Event == "tag":
		f.Tag = h.getenv("DRONE_TAG")
		f.byRef()
	default:
		f.byEvent()
	}
	return f
}
