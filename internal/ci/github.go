package ci

import (
	"cmp"
	"encoding/json"
	"strings"

	"github.com/warmlayer/warmlayer/scope"
)

var github = actions("github", "GITHUB_ACTIONS", githubFacts)

// payload is the part of a GitHub webhook event that says where the code comes from.
// https://docs.github.com/en/webhooks/webhook-events-and-payloads
type payload struct {
	Action      string       `json:"action"`
	Number      int          `json:"number"`
	PullRequest *pullRequest `json:"pull_request"`
	Issue       struct {
		Number      int       `json:"number"`
		PullRequest *struct{} `json:"pull_request"` // absent on an issue that is not a pull request
	} `json:"issue"`
	MergeGroup struct {
		BaseRef string `json:"base_ref"`
	} `json:"merge_group"`
	WorkflowRun struct {
		HeadRepository repo `json:"head_repository"`
	} `json:"workflow_run"`
	Repository struct {
		DefaultBranch string `json:"default_branch"`
		Private       *bool  `json:"private"`
	} `json:"repository"`
}

// pullRequest is a pull request in a payload.
type pullRequest struct {
	Number int `json:"number"`
	Head   struct {
		Ref  string `json:"ref"`
		Repo *repo  `json:"repo"` // null when the fork was deleted
	} `json:"head"`
	Base struct {
		Ref string `json:"ref"`
	} `json:"base"`
}

// fork reports whether the pull request comes from another repository than the given one, or
// whether that is not known.
func (pr pullRequest) fork(repository string) bool {
	return pr.Head.Repo == nil || repository == "" || pr.Head.Repo.FullName != repository
}

// repo is a repository in a payload: "owner/name".
type repo struct {
	FullName string `json:"full_name"`
}

// githubFacts reads GitHub Actions. A called workflow (workflow_call) has its caller's event.
// https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows
func githubFacts(h host) scope.Facts {
	f := scope.Facts{
		Event:  h.getenv("GITHUB_EVENT_NAME"),
		Base:   h.getenv("GITHUB_BASE_REF"),
		Commit: h.getenv("GITHUB_SHA"),
		Repo:   h.getenv("GITHUB_REPOSITORY"),
		URL:    githubRun(h),
	}
	event, readable := readPayload(h)
	f.Default = event.Repository.DefaultBranch
	ref := githubRef(h)
	if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		f.Branch = branch
	} else if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		f.Tag = tag
	}

	switch f.Event {
	case "push", "schedule", "workflow_dispatch", "release", "delete":
		githubRefEvent(&f, h)
	case "merge_group":
		judgeQueue(&f, strings.TrimPrefix(event.MergeGroup.BaseRef, "refs/heads/"))
	case "pull_request":
		githubPullRequest(&f, h, event, ref)
		f.Trusted, f.Untrusted = githubTrust(event, f.Repo, readable)
	default:
		judgeEvent(&f)
		githubUnlisted(&f, h, event, ref, readable)
	}
	return f
}

// githubRefEvent judges the events that only a user with write access to the repository can
// start, on a ref of that repository.
func githubRefEvent(f *scope.Facts, h host) {
	f.Protected = h.getenv("GITHUB_REF_PROTECTED") == "true"
	base := queueBase(f.Branch)
	switch {
	case base != "": // creating a merge queue's branch also pushes it, but so may a person
		judgeNamedQueue(f, base)
	case f.Tag != "", f.Branch != "" && f.Event != "release":
		f.Trusted = true
	default:
		f.Untrusted = noRef
	}
}

// githubPullRequest fills in a pull request: the number from the payload or from
// refs/pull/<number>/merge, neither of which a fork can choose.
func githubPullRequest(f *scope.Facts, h host, event payload, ref string) {
	f.Branch = h.getenv("GITHUB_HEAD_REF")
	if pr := event.PullRequest; pr != nil {
		f.PR = pr.Number
		f.Branch = cmp.Or(f.Branch, pr.Head.Ref)
		f.Base = cmp.Or(f.Base, pr.Base.Ref)
	}
	if f.PR <= 0 {
		f.PR = event.Number
	}
	if f.PR <= 0 {
		pull, _ := strings.CutPrefix(ref, "refs/pull/")
		number, _, _ := strings.Cut(pull, "/")
		f.PR = numberOrUnknown(pullNumber(number))
	}
}

// githubUnlisted finds the pull request that an unlisted event is about, and a fork that it names.
func githubUnlisted(f *scope.Facts, h host, event payload, ref string, readable bool) {
	if from := event.WorkflowRun.HeadRepository.FullName; from != "" && from != f.Repo {
		f.Untrusted = scope.ForkRun
	}
	if pr := event.PullRequest; pr != nil && pr.fork(f.Repo) {
		f.Untrusted = scope.Fork
	}
	switch {
	case event.PullRequest != nil || strings.HasPrefix(f.Event, "pull_request") || h.getenv("GITHUB_HEAD_REF") != "":
		githubPullRequest(f, h, event, ref)
	case event.Issue.PullRequest != nil:
		f.PR, f.Branch = numberOrUnknown(event.Issue.Number), ""
	case f.Event == "issue_comment" && !readable:
		f.PR, f.Branch = scope.UnknownPR, ""
	}
}

// githubTrust reports whether a pull request's code comes from a branch of this repository, and
// if not, or if it no longer matters, why not. Gitea and Forgejo name the base repository as the
// head's of a pull request that was pushed to refs/for/<branch>, which everyone who may read the
// repository can do: its head is refs/pull/<number>/head (services/convert/pull.go in Gitea).
func githubTrust(event payload, repo string, readable bool) (bool, string) {
	pr := event.PullRequest
	switch {
	case !readable || pr == nil:
		return false, noPayload
	case pr.fork(repo):
		return false, scope.Fork
	case pr.Head.Ref == "" || strings.HasPrefix(pr.Head.Ref, "refs/"):
		return false, scope.NoBranch
	case event.Action == "closed":
		// A merged one runs on its base branch, which must not read a pull request's scope.
		return false, scope.Closed
	}
	return true, ""
}

// githubRef is the full ref, put together from its parts where only those are set.
func githubRef(h host) string {
	ref, name := h.getenv("GITHUB_REF"), h.getenv("GITHUB_REF_NAME")
	if ref != "" || name == "" {
		return ref
	}
	switch h.getenv("GITHUB_REF_TYPE") {
	case "branch":
		return "refs/heads/" + name
	case "tag":
		return "refs/tags/" + name
	}
	return ""
}

// githubRun is the page of the attempt that runs.
func githubRun(h host) string {
	page, attempt := actionsRun(h, "GITHUB_RUN_ID"), h.getenv("GITHUB_RUN_ATTEMPT")
	if page == "" || attempt == "" {
		return page
	}
	return page + "/attempts/" + attempt
}

// actionsRun is the page of a run, which the variable called id numbers.
func actionsRun(h host, id string) string {
	server, repo, run := h.getenv("GITHUB_SERVER_URL"), h.getenv("GITHUB_REPOSITORY"), h.getenv(id)
	if server == "" || repo == "" || run == "" {
		return ""
	}
	return server + "/" + repo + "/actions/runs/" + run
}

// readPayload reads the file at GITHUB_EVENT_PATH. A payload that cannot be read whole
// counts as none: half of one could hide that a pull request is a fork's.
func readPayload(h host) (payload, bool) {
	var event payload
	file := h.getenv("GITHUB_EVENT_PATH")
	if file == "" {
		return payload{}, false
	}
	text, err := h.readFile(file)
	if err != nil {
		return payload{}, false
	}
	if err := json.Unmarshal(text, &event); err != nil {
		return payload{}, false
	}
	return event, true
}
