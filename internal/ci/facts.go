package ci

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/warmlayer/warmlayer/scope"
)

// Reasons why a build is not trusted, for [scope.Facts], beside those of package scope.
const (
	perhapsFork = "this CI does not say whether a pull request is a fork's; trusted: true overrides"
	noRef       = "the CI names neither a branch nor a tag; trusted: true overrides"
	onlyNamed   = "a branch that only has the name of a merge queue's; trusted: true overrides"
	noPayload   = "a pull request whose origin is not known: the event payload cannot be read"
)

// judgeRef judges a build of one of the repository's own branches or tags.
func judgeRef(f *scope.Facts) {
	switch base := queueBase(f.Branch); {
	case base != "": // a CI that builds every branch also builds those of GitHub's merge queue
		judgeNamedQueue(f, base)
	case f.Branch == "" && f.Tag == "":
		f.Untrusted = noRef
	default:
		f.Trusted = true
		f.MayQueue = f.Branch != "" && f.Default == ""
	}
}

// judgePull judges a pull request: untrusted is "" where its code is this repository's own. One
// without a number is not trusted: variables that say so may be missing too.
func judgePull(f *scope.Facts, number int, untrusted string) {
	if number <= 0 && untrusted == "" {
		untrusted = scope.UnknownNumber
	}
	f.PR = numberOrUnknown(number)
	f.Trusted, f.Untrusted = untrusted == "", untrusted
}

// judgeEvent judges an event that does not say whose code is built.
func judgeEvent(f *scope.Facts) {
	f.Unlisted = true
	f.Untrusted = fmt.Sprintf("event %s does not say whose code is built", scope.Printable(f.Event))
}

// unlessSame is why a pull request from one repository into another is not trusted, "" when
// both are the same one, which must be known.
func unlessSame(from, into string) string {
	if from == "" || from != into {
		return scope.Fork
	}
	return ""
}

// pullNumber parses a pull request's number, and is 0 for anything else.
func pullNumber(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// numberOrUnknown is the number of what is known to be a pull request.
func numberOrUnknown(n int) int {
	if n <= 0 {
		return scope.UnknownPR
	}
	return n
}

// queuePrefix begins the temporary branches of GitHub's merge queues.
const queuePrefix = "gh-readonly-queue/"

// queueBase returns the branch that a GitHub merge queue's temporary branch is made for:
// gh-readonly-queue/<base>/pr-<number>-<commit>. It is "" for any other branch. Whoever may push to
// the repository can push a branch with such a name.
func queueBase(branch string) string {
	rest, ok := strings.CutPrefix(branch, queuePrefix)
	end := strings.LastIndex(rest, "/pr-")
	if !ok || end < 1 {
		return ""
	}
	return rest[:end]
}

// judgeNamedQueue judges a build of a branch with the name of a merge queue's.
func judgeNamedQueue(f *scope.Facts, base string) {
	f.Base, f.Queue = base, true
	f.Trusted, f.Untrusted = false, onlyNamed
}

// judgeQueue judges a build that the CI itself says is a merge queue's. It is trusted as a build of the
// queue's base branch is: only who may merge there can queue a change. base is the branch as the CI
// names it, and the built branch must be one of its queue.
// https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/managing-a-merge-queue
func judgeQueue(f *scope.Facts, base string) {
	f.Queue, f.Base = true, cmp.Or(base, queueBase(f.Branch))
	f.Trusted = f.Base != "" && strings.HasPrefix(f.Branch, queuePrefix+f.Base+"/")
	if !f.Trusted {
		f.Untrusted = "a merge queue's run on a branch that is not the queue's"
	}
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
