package inputs

import (
	"cmp"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
)

// onGitHub tells whether GitHub Actions runs the step, or Gitea or Forgejo, which set
// its variables.
func (p *parser) onGitHub() bool { return p.env["GITHUB_ACTIONS"] == "true" }

// server is the URL of the GitHub server, whose own when none is named.
func (p *parser) server() string {
	return strings.TrimRight(cmp.Or(p.env["GITHUB_SERVER_URL"], "https://github.com"), "/")
}

// noCheckout tells whether the working directory is empty or missing.
func (p *parser) noCheckout() bool {
	entries, err := os.ReadDir(filepath.Clean(p.dir))
	return len(entries) == 0 && (err == nil || os.IsNotExist(err))
}

// defaultContext is the Git URL of the commit that runs, as docker/build-push-action has
// it (src/context.ts in docker/actions-toolkit), or "" outside GitHub.
func (p *parser) defaultContext() string {
	repository := p.env["GITHUB_REPOSITORY"]
	if !p.onGitHub() || repository == "" {
		return ""
	}
	context := p.server() + "/" + repository + ".git"
	if ref := p.gitRef(); ref != "" {
		context += "#" + ref
	}
	return context
}

// gitRef is the commit; for a pull request the ref of its merge with its base, which is
// the only one to be fetched. A switch of the action's takes the pull request alone.
func (p *parser) gitRef() string {
	ref := p.env["GITHUB_REF"]
	if !strings.HasPrefix(ref, "refs/pull/") {
		return cmp.Or(p.env["GITHUB_SHA"], ref)
	}
	if merge, ok := strings.CutSuffix(ref, "/merge"); ok && p.env["DOCKER_DEFAULT_GIT_CONTEXT_PR_HEAD_REF"] == "true" {
		return merge + "/head"
	}
	return ref
}

var defaultTemplate = regexp.MustCompile(`\{\{\s*defaultContext\s*\}\}`)

// expand puts the default context where an input has {{defaultContext}}.
func (p *parser) expand(input string, line int, text string) (string, bool) {
	if !defaultTemplate.MatchString(text) {
		return text, true
	}
	context := p.defaultContext()
	if context == "" {
		p.report(input, line, "there is no default context outside GitHub Actions", "name the directory, or the repository's URL")
		return "", false
	}
	return defaultTemplate.ReplaceAllLiteralString(text, context), true
}

// gitToken makes github-token a secret where one of the contexts is a repository on the
// GitHub server. Its name is the one that BuildKit looks for there and sends to no other
// host (source/git). A token, header or user of the user's own comes before it.
func (p *parser) gitToken(v Values) []Secret {
	server, err := url.Parse(p.server())
	if err != nil || v.GitHubToken == "" {
		return nil
	}
	if !slices.ContainsFunc(v.places(), func(place string) bool { return isRepository(server.Host, place) }) {
		return nil
	}
	for _, s := range v.Secrets {
		name := strings.TrimSuffix(s.ID, "."+server.Host)
		if name == "GIT_AUTH_TOKEN" || name == "GIT_AUTH_HEADER" {
			return nil
		}
	}
	return []Secret{{"GIT_AUTH_TOKEN." + server.Host, v.GitHubToken}}
}

// isRepository tells whether a place is a Git repository that is read over HTTP from a
// host, without credentials in the URL.
func isRepository(host, place string) bool {
	git, ok, _ := dfgitutil.ParseGitRef(place)
	if !ok || git == nil {
		return false
	}
	remote := git.Remote
	if git.IndistinguishableFromLocal {
		remote = "https://" + remote
	}
	u, err := url.Parse(remote)
	return err == nil && httpURL.MatchString(remote) && u.Host == host && u.User == nil
}

// isPublic tells whether GitHub's event says that the repository is public. An event
// that cannot be read does not.
func (p *parser) isPublic() bool {
	content, err := os.ReadFile(p.env["GITHUB_EVENT_PATH"])
	if err != nil {
		return false
	}
	var event struct {
		Repository struct{ Private *bool }
	}
	err = json.Unmarshal(content, &event)
	return err == nil && event.Repository.Private != nil && !*event.Repository.Private
}
