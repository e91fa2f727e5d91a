package ci

import "github.com/warmlayer/warmlayer/scope"

var bitbucket = Dialect{Name: "bitbucket", here: set("BITBUCKET_BUILD_NUMBER"), facts: bitbucketFacts}

// bitbucketFacts reads Bitbucket Pipelines, which does not know the default branch: it is an input.
// https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/
func bitbucketFacts(h host) scope.Facts {
	f := scope.Facts{
		Branch: h.getenv("BITBUCKET_BRANCH"),
		Tag:    h.getenv("BITBUCKET_TAG"),
		Commit: h.getenv("BITBUCKET_COMMIT"),
		Repo:   h.getenv("BITBUCKET_REPO_FULL_NAME"),
	}
	if f.Repo != "" {
		f.URL = "https://bitbucket.org/" + f.Repo + "/pipelines/results/" + h.getenv("BITBUCKET_BUILD_NUMBER")
	}
	if h.knows("BITBUCKET_PR_ID", "BITBUCKET_PR_DESTINATION_BRANCH") {
		f.Base = h.getenv("BITBUCKET_PR_DESTINATION_BRANCH")
		judgePull(&f, pullNumber(h.getenv("BITBUCKET_PR_ID")), perhapsFork)
	} else {
		judgeRef(&f)
	}
	return f
}
