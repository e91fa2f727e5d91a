package ci

import (
	"net/url"
	"strings"
)

// Pulls is where a server lists the open pull requests of a job's repository.
type Pulls struct {
	List   string // URL with a query, without a page: "https://api.github.com/repos/acme/shop/pulls?state=open"
	Header string // that has the token: "Authorization"
	Value  string // of that header
	Secret string // the token alone
}

// Pulls is that list, or why it cannot be asked for, as a phrase. githubToken is the input github-token; "" for none.
func (d Dialect) Pulls(githubToken string) (list Pulls, why string) {
	if d.pulls == nil {
		return Pulls{}, "this CI does not tell which are open"
	}
	return d.pulls(d.host, githubToken)
}

// Remote is the URL of the job's repository for git; "" where the CI names none.
func (d Dialect) Remote() string {
	if d.remote == nil {
		return ""
	}
	return d.remote(d.host)
}

// Run identifies the run that a job belongs to. Its other jobs have the same, and a job that is repeated alone has it again; "" where
// the CI names no such thing.
func (d Dialect) Run() string {
	if d.run == nil {
		return ""
	}
	return d.run(d.host)
}

// githubPulls are those of docs.github.com, "List pull requests", and in Gitea and Forgejo of "List a repo's pull requests", which take GitHub's form of
// the header.
func githubPulls(h host, token string) (Pulls, string) {
	api, repository := strings.TrimSuffix(h.getenv("GITHUB_API_URL"), "/"), h.getenv("GITHUB_REPOSITORY")
	if token == "" || api == "" || repository == "" {
		return Pulls{}, "there is no token that may list them: set github-token"
	}
	return Pulls{List: api + "/repos/" + repository + "/pulls?state=open", Header: "Authorization", Value: "Bearer " + token, Secret: token}, ""
}

func githubRemote(h host) string {
	if repository := h.getenv("GITHUB_REPOSITORY"); repository != "" {
		return (Dialect{host: h}).server() + "/" + repository
	}
	return ""
}

// gitlabPulls are those of docs.gitlab.com, "List project merge requests", which a job's own token may not list.
func gitlabPulls(h host, _ string) (Pulls, string) {
	api, project, token := h.getenv("CI_API_V4_URL"), h.getenv("CI_PROJECT_PATH"), h.getenv("GITLAB_TOKEN")
	if token == "" || api == "" || project == "" {
		return Pulls{}, "there is no token that may list them: set the variable GITLAB_TOKEN to one with the scope read_api"
	}
	return Pulls{
		List: api + "/projects/" + url.PathEscape(project) + "/merge_requests?state=opened", Header: "PRIVATE-TOKEN", Value: token, Secret: token,
	}, ""
}

// variable is a function that gives a variable's value.
func variable(name string) func(host) string { return func(h host) string { return h.getenv(name) } }
