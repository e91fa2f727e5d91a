package scope

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// host is the machine as Detect sees it.
type host struct {
	getenv   func(string) string
	readFile func(string) ([]byte, error)
}

// knows reports whether one of the variables is set: a pull request is one even where its
// number was not handed on to a container.
func (h host) knows(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return h.getenv(name) != "" })
}

// cis are the systems that are known, in the order in which they are looked for. Some set the
// variables of others too, so order matters; another CI is another line.
var cis = []struct {
	name  string
	here  func(host) bool
	facts func(host) Facts
}{
	{"forgejo", on("FORGEJO_ACTIONS"), gitea},
	{"gitea", on("GITEA_ACTIONS"), gitea},
	{"github", on("GITHUB_ACTIONS"), github},
	{"woodpecker", onWoodpecker, woodpecker},
	{"drone", on("DRONE"), drone},
	{"gitlab", on("GITLAB_CI"), gitlab},
	{"buildkite", on("BUILDKITE"), buildkite},
	{"circleci", on("CIRCLECI"), circleci},
	{"azure", on("TF_BUILD"), azure},
	{"bitbucket", on("BITBUCKET_BUILD_NUMBER"), bitbucket},
	{"jenkins", on("JENKINS_URL"), jenkins},
	{"travis", on("TRAVIS"), travis},
	{"appveyor", on("APPVEYOR"), appveyor},
	{"unknown", on("CI", "CONTINUOUS_INTEGRATION", "CODEBUILD_BUILD_ID", "TEAMCITY_VERSION"), unknown},
}

// Detect reads the facts from the environment and the files of a CI, and without one from the
// git checkout around the working directory. It never fails: what cannot be read is unknown,
// and what might come from a stranger is not trusted. Outside a CI and outside git the user of
// a shell is trusted, but there is no branch to name a scope after.
//
// The paths given to readFile are absolute or relative to the working directory.
func Detect(getenv func(string) string, readFile func(string) ([]byte, error)) Facts {
	h := host{getenv, readFile}
	for _, ci := range cis {
		if ci.here(h) {
			f := ci.facts(h)
			f.CI = ci.name
			if f.Trusted && f.PR == 0 && f.Branch != "" && f.Branch == f.Default {
				f.Protected = true
			}
			return f
		}
	}
	f, ok := git(h)
	if ok {
		f.CI = "git"
	}
	f.Trusted = true
	return f
}

// on reports whether one of the variables is set, and not to a word for no.
func on(names ...string) func(host) bool {
	return func(h host) bool {
		for _, name := range names {
			switch strings.ToLower(h.getenv(name)) {
			case "", "0", "false", "no", "off":
			default:
				return true
			}
		}
		return false
	}
}

// unknown is a CI that is not in the table. What it has checked out may be a fork's.
func unknown(h host) Facts {
	f, _ := git(h)
	f.Doubt = "this CI is not known, so neither is whose code it builds; trusted: true overrides"
	return f
}

const (
	doubtFork    = "a fork's pull request"
	doubtSilent  = "this CI does not say whether a pull request is a fork's; trusted: true overrides"
	doubtNumber  = "a pull request whose number is not known"
	doubtQueue   = "a merge queue's branch is temporary"
	doubtRef     = "the CI names neither a branch nor a tag; trusted: true overrides"
	doubtPayload = "a pull request whose origin is not known: the event payload cannot be read"
)

// byRef judges a build of one of the repository's own branches or tags.
func (f *Facts) byRef() {
	switch base := queueBase(f.Branch); {
	case base != "": // a CI that builds every branch also builds those of GitHub's merge queue
		f.Base, f.Queue, f.Doubt = base, true, doubtQueue
	case f.Branch == "" && f.Tag == "":
		f.Unlisted, f.Doubt = true, doubtRef
	default:
		f.Trusted = true
	}
}

// byPull judges a pull request: doubt is "" where its code is this repository's own.
func (f *Facts) byPull(number int, doubt string) {
	f.PR = numberOrUnknown(number)
	f.Trusted, f.Doubt = doubt == "", doubt
}

// byEvent gives up on an event that does not say whose code is built.
func (f *Facts) byEvent() {
	f.Unlisted = true
	f.Doubt = fmt.Sprintf("event %s does not say whose code is built", printable(f.Event))
}

// foreign is the doubt about a pull request from one repository into another, "" when they are one.
func foreign(from, into string) string {
	if from == "" || from != into {
		return doubtFork
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
		return UnknownPR
	}
	return n
}

// queueBase returns the branch that a GitHub merge queue's temporary branch is made for:
// gh-readonly-queue/<base>/pr-<number>-<commit>. It is "" for any other branch.
func queueBase(branch string) string {
	rest, ok := strings.CutPrefix(branch, "gh-readonly-queue/")
	end := strings.LastIndex(rest, "/pr-")
	if !ok || end < 1 {
		return ""
	}
	return rest[:end]
}
