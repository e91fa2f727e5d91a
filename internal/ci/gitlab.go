package ci

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/warmlayer/warmlayer/scope"
)

var gitlab = Dialect{
	Name: "gitlab", here: set("GITLAB_CI"), facts: gitlabFacts,
	log:         log{begin: gitlabBegin, end: gitlabEnd},
	credentials: gitlabCredentials, remote: variable("CI_REPOSITORY_URL"), run: variable("CI_PIPELINE_ID"), pulls: gitlabPulls,
}

// gitlabFacts reads GitLab CI/CD. It recognises merge requests by their own variables rather than
// by the event, which is parent_pipeline in their child pipelines.
// https://docs.gitlab.com/ci/variables/predefined_variables/
func gitlabFacts(h host) scope.Facts {
	f := scope.Facts{
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
	case slices.Contains(gitlabSources, f.Event):
		f.Branch, f.Tag = h.getenv("CI_COMMIT_BRANCH"), h.getenv("CI_COMMIT_TAG")
		f.Protected = h.getenv("CI_COMMIT_REF_PROTECTED") == "true"
		judgeRef(&f)
	default:
		judgeEvent(&f)
	}
	return f
}

// gitlabSources are the values of CI_PIPELINE_SOURCE whose pipelines have the code of a branch or tag
// of the project: pushes, and what only people who may push can start on such a ref.
// https://docs.gitlab.com/ci/jobs/job_rules/#ci_pipeline_source-predefined-variable
var gitlabSources = []string{"push", "web", "webide", "schedule", "api", "trigger", "pipeline", "parent_pipeline", "chat"}

// gitlabPullRequest reads a merge request, or a pull request of the repository that GitLab
// mirrors. Both have the same variables with different prefixes, except those that name the two
// repositories. A merge train is a merge request's pipeline with an event type of its own:
// https://docs.gitlab.com/ci/pipelines/merge_trains/
func gitlabPullRequest(f *scope.Facts, h host, prefix, target, source string) {
	f.PR = numberOrUnknown(pullNumber(h.getenv(prefix + "IID")))
	f.Branch = h.getenv(prefix + "SOURCE_BRANCH_NAME")
	f.Base = h.getenv(prefix + "TARGET_BRANCH_NAME")
	from, into := h.getenv(prefix+source), h.getenv(prefix+target)
	f.Queue = h.getenv("CI_MERGE_REQUEST_EVENT_TYPE") == "merge_train"
	switch {
	case from == "" || from != into: // in a train too: GitLab lets no fork's merge request into one
		f.Untrusted = scope.Fork
	case f.Queue && f.PR < 0:
		f.Untrusted = scope.UnknownNumber
	case f.Queue: // who adds a merge request to a train may merge it
		f.Trusted = true
	default:
		f.Trusted = true
		// GitLab judges by the source branch's name, which means nothing in a fork.
		f.Protected = h.getenv("CI_COMMIT_REF_PROTECTED") == "true"
	}
}

// gitlabBegin begins a collapsed section, each of which needs a name of its own:
// docs.gitlab.com, "Custom collapsible sections".
func gitlabBegin(s Section) string {
	return fmt.Sprintf("\x1b[0Ksection_start:%d:%s[collapsed=true]\r\x1b[0K%s\n", s.Began.Unix(), gitlabName(s), s.Title)
}

func gitlabEnd(s Section, ended time.Time, _ bool) string {
	return fmt.Sprintf("\x1b[0Ksection_end:%d:%s\r\x1b[0K\n", ended.Unix(), gitlabName(s))
}

func gitlabName(s Section) string { return fmt.Sprintf("warmlayer_%d", s.Began.UnixNano()) }

// gitlabCredentials are those of GitLab's registry and of its dependency proxy, which images
// name with its port or without: docs.gitlab.com/ci/variables/predefined_variables.
func gitlabCredentials(h host) []Credential {
	proxy := Credential{h.getenv("CI_DEPENDENCY_PROXY_SERVER"), h.getenv("CI_DEPENDENCY_PROXY_USER"), h.getenv("CI_DEPENDENCY_PROXY_PASSWORD")}
	withoutPort := proxy
	withoutPort.Host = strings.TrimSuffix(proxy.Host, ":443")
	return []Credential{
		{h.getenv("CI_REGISTRY"), h.getenv("CI_REGISTRY_USER"), h.getenv("CI_REGISTRY_PASSWORD")},
		proxy,
		withoutPort,
	}
}
