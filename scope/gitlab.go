package scope

// gitlab reads GitLab CI/CD. Merge requests are told by their own variables rather than by the
// event, because a child pipeline of theirs has the event parent_pipeline.
// https://docs.gitlab.com/ci/variables/predefined_variables/
func gitlab(h host) Facts {
	f := Facts{
		Event:   h.getenv("CI_PIPELINE_SOURCE"),
		Default: h.getenv("CI_DEFAULT_BRANCH"),
		Commit:  h.getenv("CI_COMMIT_SHA"),
		Repo:    h.getenv("CI_PROJECT_PATH"),
		URL:     h.getenv("CI_JOB_URL"),
	}
	switch {
	case h.getenv("CI_MERGE_REQUEST_IID") != "" || f.Event == "merge_request_event":
		gitlabPullRequest(&f, h, "CI_MERGE_REQUEST_", "PROJECT_ID", "SOURCE_PROJECT_ID")
	case h.getenv("CI_EXTERNAL_PULL_REQUEST_IID") != "" || f.Event == "external_pull_request_event":
		gitlabPullRequest(&f, h, "CI_EXTERNAL_PULL_REQUEST_", "TARGET_REPOSITORY", "SOURCE_REPOSITORY")
	default:
		f.Branch, f.Tag = h.getenv("CI_COMMIT_BRANCH"), h.getenv("CI_COMMIT_TAG")
		f.Protected = h.getenv("CI_COMMIT_REF_PROTECTED") == "true"
		f.Trusted = f.Branch != "" || f.Tag != ""
		if !f.Trusted {
			f.Unlisted, f.Doubt = true, doubtRef
		}
	}
	return f
}

// gitlabPullRequest reads a merge request, or a pull request of the repository that GitLab
// mirrors: the same variables under two prefixes, but for those that name the two sides.
func gitlabPullRequest(f *Facts, h host, prefix, target, source string) {
	f.PR = numberOrUnknown(pullNumber(h.getenv(prefix + "IID")))
	f.Branch = h.getenv(prefix + "SOURCE_BRANCH_NAME")
	f.Base = h.getenv(prefix + "TARGET_BRANCH_NAME")
	from, into := h.getenv(prefix+source), h.getenv(prefix+target)
	switch {
	case h.getenv(prefix+"EVENT_TYPE") == "merge_train":
		f.Queue, f.Doubt = true, doubtQueue
	case from == "" || from != into:
		f.Doubt = doubtFork
	default:
		f.Trusted = true
		// GitLab judges by the source branch's name, which means nothing in a fork.
		f.Protected = h.getenv("CI_COMMIT_REF_PROTECTED") == "true"
	}
}
