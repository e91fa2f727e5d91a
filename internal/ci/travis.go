package ci

import "github.com/warmlayer/warmlayer/scope"

var travis = Dialect{Name: "travis", here: set("TRAVIS"), facts: travisFacts}

// travisFacts reads Travis CI, which does not know the default branch: it is an input.
// TRAVIS_BRANCH is a pull request's target, and the tag of a tag's build.
// https://docs.travis-ci.com/user/environment-variables/
func travisFacts(h host) scope.Facts {
	f := scope.Facts{
		Event:  h.getenv("TRAVIS_EVENT_TYPE"),
		Tag:    h.getenv("TRAVIS_TAG"),
		Commit: h.getenv("TRAVIS_COMMIT"),
		Repo:   h.getenv("TRAVIS_REPO_SLUG"),
		URL:    h.getenv("TRAVIS_BUILD_WEB_URL"),
	}
	switch number := h.getenv("TRAVIS_PULL_REQUEST"); {
	case number != "" && number != "false" || f.Event == "pull_request":
		f.Branch, f.Base = h.getenv("TRAVIS_PULL_REQUEST_BRANCH"), h.getenv("TRAVIS_BRANCH")
		judgePull(&f, pullNumber(number), unlessSame(h.getenv("TRAVIS_PULL_REQUEST_SLUG"), f.Repo))
	case f.Event == "push" || f.Event == "cron" || f.Event == "api":
		if f.Tag == "" {
			f.Branch = h.getenv("TRAVIS_BRANCH")
		}
		judgeRef(&f)
	default:
		judgeEvent(&f)
	}
	return f
}
