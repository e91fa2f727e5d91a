package scope

import (
	"cmp"
	"net/url"
	"strings"
)

// buildkite reads Buildkite.
// https://buildkite.com/docs/pipelines/configure/environment-variables
func buildkite(h host) Facts {
	f := Facts{
		Event:   h.getenv("BUILDKITE_SOURCE"),
		Branch:  h.getenv("BUILDKITE_BRANCH"),
		Default: h.getenv("BUILDKITE_PIPELINE_DEFAULT_BRANCH"),
		Tag:     h.getenv("BUILDKITE_TAG"),
		Commit:  h.getenv("BUILDKITE_COMMIT"),
		Repo:    repository(h.getenv("BUILDKITE_REPO")),
		URL:     h.getenv("BUILDKITE_BUILD_URL"),
	}
	if f.Tag != "" {
		f.Branch = "" // it holds the tag
	}
	if number := h.getenv("BUILDKITE_PULL_REQUEST"); number != "false" {
		f.PR = numberOrUnknown(pullNumber(number))
		f.Base = h.getenv("BUILDKITE_PULL_REQUEST_BASE_BRANCH")
	}
	base := cmp.Or(h.getenv("BUILDKITE_MERGE_QUEUE_BASE_BRANCH"), queueBase(f.Branch))
	from := repository(h.getenv("BUILDKITE_PULL_REQUEST_REPO"))
	switch {
	case base != "":
		f.Base, f.Queue, f.Doubt = base, true, doubtQueue
	case f.PR == UnknownPR:
		// Never empty on Buildkite: a container that was not given the variable may build anything.
		f.Doubt = doubtNumber
	case f.PR != 0 && from == "":
		f.Doubt = "a pull request whose repository is not known"
	case f.PR != 0 && from != f.Repo:
		f.Doubt = doubtFork
	case f.Branch == "" && f.Tag == "":
		f.Unlisted, f.Doubt = true, doubtRef
	default:
		f.Trusted = true
	}
	return f
}

// repository brings the addresses that git knows for one repository to one form, host/path:
// git@host:o/r.git, ssh://git@host/o/r, https://token@host/o/r/. It keeps no credentials, and
// is "" for what is not the address of a repository on a host. Only the host's case is
// ignored: whether a path's case matters is the host's affair.
func repository(address string) string {
	if !strings.Contains(address, "://") {
		host, path, ok := strings.Cut(address, ":")
		if !ok || strings.Contains(host, "/") {
			return ""
		}
		address = "ssh://" + host + "/" + strings.TrimPrefix(path, "/")
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Host)
	if port := map[string]string{"ssh": "22", "https": "443", "http": "80", "git": "9418"}[u.Scheme]; port != "" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	path := strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	if host == "" || path == "" {
		return ""
	}
	return host + "/" + path
}
