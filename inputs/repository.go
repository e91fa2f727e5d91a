package inputs

import (
	"cmp"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Repository is the one that a CI's job builds, as the CI names it. The zero value is for no CI.
type Repository struct {
	Server  string // URL of the GitHub server that github-token is for, without a slash at its end; "": github.com's
	Actions bool   // unset inputs have the defaults of docker/build-push-action
	Context string // Git URL of the commit that runs, which replaces {{defaultContext}}; "": none
	Public  bool   // the repository is public; false: private or unknown
}

// server is the URL of the GitHub server.
func (p *parser) server() string { return cmp.Or(p.repository.Server, "https://github.com") }

// noCheckout tells whether the working directory is empty or missing.
func (p *parser) noCheckout() bool {
	entries, err := os.ReadDir(filepath.Clean(p.dir))
	return len(entries) == 0 && (err == nil || os.IsNotExist(err))
}

var defaultTemplate = regexp.MustCompile(`\{\{\s*defaultContext\s*\}\}`)

// expand puts the default context where an input has {{defaultContext}}.
func (p *parser) expand(input string, line int, text string) (string, bool) {
	if !defaultTemplate.MatchString(text) {
		return text, true
	}
	context := p.repository.Context
	if context == "" {
		p.report(input, line, "there is no default context outside GitHub Actions", "name the directory, or the repository's URL")
		return "", false
	}
	return defaultTemplate.ReplaceAllLiteralString(text, context), true
}

// tokenDefault begins the value of github-token that is the default in action.yml. A runner hands a
// default over like a value of the workflow, and untrusted runs must not get the default.
const tokenDefault = "default:"

// gitSecret is the ID under which github-token is a secret, "" where it is none: where no context is
// a repository on the GitHub server, or the inputs have a token, header or user of their own for it.
// BuildKit looks for this name there and sends its value to no other host (source/git).
func (p *parser) gitSecret(v Values) string {
	server, err := url.Parse(p.server())
	if err != nil || v.GitHubToken == "" {
		return ""
	}
	if !slices.ContainsFunc(v.contexts(), func(c Context) bool { return c.host == server.Host }) {
		return ""
	}
	for _, s := range v.Secrets {
		name := strings.TrimSuffix(s.ID, "."+server.Host)
		if name == "GIT_AUTH_TOKEN" || name == "GIT_AUTH_HEADER" {
			return ""
		}
	}
	return "GIT_AUTH_TOKEN." + server.Host
}
