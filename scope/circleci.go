package scope

import (
	"path"
	"strings"
)

// circleci reads CircleCI, which knows neither the default branch nor a pull request's base:
// both are inputs. It builds pushes, and names the pull request that a branch has by its URL,
// https://github.com/acme/shop/pull/7. A fork's has variables of its own, and its branch is
// pull/7.
// https://circleci.com/docs/variables/
func circleci(h host) Facts {
	f := Facts{
		Branch: h.getenv("CIRCLE_BRANCH"),
		Tag:    h.getenv("CIRCLE_TAG"),
		Commit: h.getenv("CIRCLE_SHA1"),
		Repo:   repository(h.getenv("CIRCLE_REPOSITORY_URL")),
		URL:    h.getenv("CIRCLE_BUILD_URL"),
	}
	page := h.getenv("CIRCLE_PULL_REQUEST")
	pull, isPull := strings.CutPrefix(f.Branch, "pull/")
	switch {
	case h.knows("CIRCLE_PR_NUMBER", "CIRCLE_PR_USERNAME", "CIRCLE_PR_REPONAME"):
		f.byPull(pullNumber(h.getenv("CIRCLE_PR_NUMBER")), doubtFork)
	case isPull && f.Tag == "":
		pull, _, _ = strings.Cut(pull, "/")
		f.byPull(pullNumber(pull), doubtFork)
	case page != "":
		f.byPull(pullNumber(path.Base(page)), "")
	default:
		f.byRef()
	}
	return f
}
