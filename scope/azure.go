package scope

import (
	"cmp"
	"strings"
)

// azure reads Azure Pipelines, which does not know the default branch: it is an input.
// https://learn.microsoft.com/azure/devops/pipelines/build/variables
func azure(h host) Facts {
	f := Facts{
		Event:  h.getenv("BUILD_REASON"),
		Commit: h.getenv("BUILD_SOURCEVERSION"),
		Repo:   repository(h.getenv("BUILD_REPOSITORY_URI")),
		URL:    azureRun(h),
	}
	ref := h.getenv("BUILD_SOURCEBRANCH")
	pull, isPull := strings.CutPrefix(ref, "refs/pull/")
	pull, _, _ = strings.Cut(pull, "/")
	number := cmp.Or(h.getenv("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER"), h.getenv("SYSTEM_PULLREQUEST_PULLREQUESTID"))
	switch {
	case isPull || number != "" || f.Event == "PullRequest":
		f.Branch = azureBranch(h.getenv("SYSTEM_PULLREQUEST_SOURCEBRANCH"))
		f.Base = azureBranch(h.getenv("SYSTEM_PULLREQUEST_TARGETBRANCH"))
		if !isPull {
			pull = ""
		}
		f.byPull(pullNumber(cmp.Or(number, pull)), azureDoubt(h))
	case f.Event == "Manual" || f.Event == "IndividualCI" || f.Event == "BatchedCI" || f.Event == "Schedule":
		if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
			f.Branch = branch
		} else if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
			f.Tag = tag
		}
		f.byRef()
	default: // another pipeline's end, which may have built a fork's pull request
		f.byEvent()
	}
	return f
}

// azureBranch is a branch without refs/heads/, which stands before those of Azure Repos alone.
func azureBranch(ref string) string { return strings.TrimPrefix(ref, "refs/heads/") }

// azureDoubt says why a pull request's code may not be the repository's own: it must be said
// not to be a fork's.
func azureDoubt(h host) string {
	switch strings.ToLower(h.getenv("SYSTEM_PULLREQUEST_ISFORK")) {
	case "false":
		return ""
	case "true":
		return doubtFork
	}
	return "a pull request that may be a fork's"
}

func azureRun(h host) string {
	collection, project, build := h.getenv("SYSTEM_COLLECTIONURI"), h.getenv("SYSTEM_TEAMPROJECTID"), h.getenv("BUILD_BUILDID")
	if collection == "" || project == "" || build == "" {
		return ""
	}
	return strings.TrimSuffix(collection, "/") + "/" + project + "/_build/results?buildId=" + build
}
