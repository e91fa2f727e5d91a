package scope

// bitbucket reads Bitbucket Pipelines, which does not know the default branch: it is an input.
// https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/
func bitbucket(h host) Facts {
	f := Facts{
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
		f.byPull(pullNumber(h.getenv("BITBUCKET_PR_ID")), doubtSilent)
	} else {
		f.byRef()
	}
	return f
}
