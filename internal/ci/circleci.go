package ci

import (
	"path"
	"strings"

	"github.com/warmlayer/warmlayer/scope"
)

var circleci = Dialect{Name: "circleci", here: set("CIRCLECI"), facts: circleciFacts}

const circleUnknown = "this integration of CircleCI does not say whether the code is a fork's; trusted: true overrides"

// circleciFacts reads CircleCI, which knows neither the default branch nor a pull request's base:
// both are inputs. It builds pushes, and names the pull request that a branch has by its URL,
// https://github.com/acme/shop/pull/7. A fork's has variables of its own, and its branch is
// pull/7. All of these, and the repository's URL, are set by the integrations with GitHub's OAuth
// and with Bitbucket Cloud alone.
// https://circleci.com/docs/variables/
func circleciFacts(h host) scope.Facts {
	f := scope.Facts{
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
		judgePull(&f, pullNumber(h.getenv("CIRCLE_PR_NUMBER")), scope.Fork)
	case isPull && f.Tag == "":
		pull, _, _ = strings.Cut(pull, "/")
		judgePull(&f, pullNumber(pull), scope.Fork)
	case page != "":
		judgePull(&f, pullNumber(path.Base(page)), "")
	case h.getenv("CIRCLE_REPOSITORY_URL") == "":
		f.Untrusted = circleUnknown
	default:
		judgeRef(&f)
	}
	return f
}
