package ci

import "github.com/warmlayer/warmlayer/scope"

var drone = Dialect{Name: "drone", here: set("DRONE"), facts: droneFacts}

// droneFacts reads Drone. DRONE_BRANCH is a pull request's target. A promotion or a rollback may
// be of any build, a pull request's too.
// https://docs.drone.io/pipeline/environment/reference/
func droneFacts(h host) scope.Facts {
	f := scope.Facts{
		Event:   h.getenv("DRONE_BUILD_EVENT"),
		Default: h.getenv("DRONE_REPO_BRANCH"),
		Commit:  h.getenv("DRONE_COMMIT_SHA"),
		Repo:    h.getenv("DRONE_REPO"),
		URL:     h.getenv("DRONE_BUILD_LINK"),
	}
	switch number := h.getenv("DRONE_PULL_REQUEST"); {
	case number != "" || f.Event == "pull_request":
		f.Branch, f.Base = h.getenv("DRONE_SOURCE_BRANCH"), h.getenv("DRONE_TARGET_BRANCH")
		judgePull(&f, pullNumber(number), perhapsFork)
	case f.Event == "push" || f.Event == "cron" || f.Event == "custom":
		f.Branch = h.getenv("DRONE_BRANCH")
		judgeRef(&f)
	case f.Event == "tag":
		f.Tag = h.getenv("DRONE_TAG")
		judgeRef(&f)
	default:
		judgeEvent(&f)
	}
	return f
}
