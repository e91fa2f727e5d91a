package ci_test

import (
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/ci"
)

// TestPulls: where the open pull requests of a job's repository are listed, and its URL for git.
func TestPulls(t *testing.T) {
	t.Parallel()
	const token = "canary-of-pulls"
	github := []string{"GITHUB_ACTIONS=true", "GITHUB_API_URL=https://api.github.com", "GITHUB_SERVER_URL=https://github.com", "GITHUB_REPOSITORY=acme/shop"}
	gitlab := []string{"GITLAB_CI=true", "CI_API_V4_URL=https://gitlab.com/api/v4", "CI_PROJECT_PATH=acme/team/shop", "CI_REPOSITORY_URL=https://gitlab-ci-token:x@gitlab.com/acme/team/shop.git"}
	for name, test := range map[string]struct {
		environ      []string
		token        string
		list, header string
		why, remote  string
	}{
		"github":                 {github, token, "https://api.github.com/repos/acme/shop/pulls?state=open", "Authorization: Bearer " + token, "", "https://github.com/acme/shop"},
		"github without a token": {github, "", "", "", "set github-token", "https://github.com/acme/shop"},
		"gitea": {append([]string{"GITEA_ACTIONS=true"}, "GITHUB_API_URL=https://git.example.com/api/v1", "GITHUB_SERVER_URL=https://git.example.com", "GITHUB_REPOSITORY=a/b"), token,
			"https://git.example.com/api/v1/repos/a/b/pulls?state=open", "Authorization: Bearer " + token, "", "https://git.example.com/a/b"},
		"gitlab":                 {append(gitlab, "GITLAB_TOKEN="+token), "", "https://gitlab.com/api/v4/projects/acme%2Fteam%2Fshop/merge_requests?state=opened", "PRIVATE-TOKEN: " + token, "", "https://gitlab-ci-token:x@gitlab.com/acme/team/shop.git"},
		"gitlab without a token": {gitlab, token, "", "", "GITLAB_TOKEN", "https://gitlab-ci-token:x@gitlab.com/acme/team/shop.git"},
		"buildkite":              {[]string{"BUILDKITE=true", "BUILDKITE_REPO=git@example.com:a/b"}, token, "", "", "does not tell", "git@example.com:a/b"},
		"drone":                  {[]string{"DRONE=true"}, token, "", "", "does not tell", ""},
	} {
		dialect, _ := ci.Detect(ci.Machine{Environ: test.environ})
		pulls, why := dialect.Pulls(test.token)
		header := strings.TrimPrefix(pulls.Header+": "+pulls.Value, ": ")
		if pulls.List != test.list || header != test.header || (why == "") != (test.why == "") || !strings.Contains(why, test.why) || (pulls.Secret == token) != (test.list != "") {
			t.Errorf("%s: %+v, %q", name, pulls, why)
		}
		if got := dialect.Remote(); got != test.remote {
			t.Errorf("%s: remote %q", name, got)
		}
	}
}
