// Package scope decides which caches a build may read and which one it may write.
//
// Every branch, pull request and tag has a cache of its own, its scope, and a [Name] that any
// store accepts. A build writes its own scope, or nothing; it reads its own and then the
// scopes of the branches it came from, nearest first, so that it starts warm:
//
//	facts := scope.Detect(os.Getenv, os.ReadFile)
//	plan := scope.New(facts, scope.Options{Key: "worker"})
//
// For pull request 7, from branch fix of the same repository into release, plan holds
//
//	Write  pr-7.worker
//	Read   pr-7.worker       own pull request
//	       b-fix.worker      head branch
//	       b-release.worker  base branch
//	       b-main.worker     default branch
//
// From a fork the same pull request reads b-release and b-main, and writes nothing: what is
// not known to be trusted never writes. A pull request's scope is named after its number,
// because a fork may call its branch main.
//
// The package is pure: it knows the world through the two functions given to [Detect].
package scope

// Facts is what the CI told about a build. An empty string means unknown. The zero value
// is a build nobody vouches for: it reads nothing and writes nothing.
type Facts struct {
	CI      string `json:"ci"`      // "github" or another name of the table in detect.go, "unknown", "git", or "" outside them all
	Event   string `json:"event"`   // what started the build, in the CI's own word: "push", "merge_request_event"
	Branch  string `json:"branch"`  // built branch; of a pull request its head branch, a name that a fork can choose
	Base    string `json:"base"`    // branch that a pull request or a merge queue merges into
	Default string `json:"default"` // the repository's default branch
	Tag     string `json:"tag"`     // built tag
	PR      int    `json:"pr"`      // pull or merge request; 0 for none, UnknownPR when its number is not known
	Trusted bool   `json:"trusted"` // false: read, never write

	// Doubt says why Trusted is false, as a phrase: "a fork's pull request".
	Doubt string `json:"doubt,omitempty"`
	// Queue: built for a merge queue or merge train, whose ref is temporary. It never writes.
	Queue bool `json:"queue,omitempty"`
	// Unlisted: an event that does not say whose code is built. It reads the default branch alone.
	Unlisted bool `json:"unlisted,omitempty"`
	// Protected: the default branch, or a ref that the CI calls protected. Its builds never read
	// a pull request's scope.
	Protected bool `json:"protected,omitempty"`

	Commit string `json:"commit,omitempty"` // full hash
	Repo   string `json:"repo,omitempty"`   // "owner/name", with the host where the CI has no host of its own
	URL    string `json:"url,omitempty"`    // page of this run
}

// UnknownPR is the PR of a pull request whose number is not known. There is no scope to
// write for it, whatever the options say: its branch's name cannot stand in.
const UnknownPR = -1

// Source is one scope to read.
type Source struct {
	Name Name `json:"name"`
	// Why is "own branch", "own pull request", "own tag", "head branch", "base branch",
	// "fallback branch" or "default branch".
	Why string `json:"why"`
}

// Plan says what a build reads and writes.
type Plan struct {
	Facts Facts  `json:"facts"`         // as detected, with the options applied
	Key   string `json:"key,omitempty"` // the image's part of every name, "" for none
	Write Name   `json:"write"`         // "": export nothing
	// Why is a phrase that says why Write is written, or why nothing is:
	// "push to main", "a fork's pull request".
	Why      string   `json:"why"`
	Read     []Source `json:"read"` // nearest first, each name once; never nil
	Warnings []string `json:"warnings,omitempty"`
}

// Values of Options.Write, the input cache-write.
const (
	WriteAuto   = "auto"   // by the trust rules
	WriteAlways = "always" // also where the trust rules say no
	WriteNever  = "never"  // read only
)

// Options are the user's word against what was detected. A zero field changes nothing.
//
// No field but Trusted makes a build trusted. In combination:
//
//   - Branch replaces the built branch and turns a tag's build into that branch's. A pull
//     request keeps its own scope and only its head branch, read where it is trusted, changes.
//   - Base and Default replace theirs. Base is also read by builds that have none, such as a push.
//   - PR makes any build but a merge queue's the build of that pull request. On a protected
//     branch it then writes nothing, as it may not read what it would write.
//   - Trusted true lets a fork's pull request, or an event that does not say whose code it
//     builds, read and write as one of this repository. Trusted false makes any build read as
//     a fork does: not its own scope, only those of base, fallbacks and default branch.
//     (To read the own scope and leave it as it is, set Write to "never".)
//   - Write "always" overrules the trust rules, not what they protect names with: an
//     untrusted pull request writes its number's scope and never a branch's. A merge queue,
//     and a pull request of unknown number, write nothing even so.
type Options struct {
	Branch, Base, Default string
	PR                    int   // 0: as detected
	Trusted               *bool // nil: as detected
	// Write is "auto", the same as "", or "always", or "never". Any other value writes nothing.
	Write     string
	Fallbacks []string // further branches to read, between base and default
	// Key is the image's identity within the store, as the user gave it or as Key derives it.
	Key string
}
