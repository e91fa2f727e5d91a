// Package scope decides which caches a build may read and which one it may write.
//
// Every branch, pull request, tag and merge queue has a cache of its own, its scope, with a [Name]
// that any store accepts. A build writes its own scope or none. It reads its own scope and then those of
// the branches that it came from, nearest first, so that it starts warm:
//
//	facts := scope.Facts{PR: 7, Branch: "fix", Base: "release", Default: "main", Trusted: true}
//	plan := scope.New(facts, scope.Options{Key: "worker"})
//
// For this pull request, whose branch is one of the same repository, plan holds
//
//	Write  pr-7.worker
//	Read   pr-7.worker       own pull request
//	       b-fix.worker      head branch
//	       b-release.worker  base branch
//	       b-main.worker     default branch
//
// From a fork the same pull request reads b-release and b-main and writes nothing: only builds
// that are known to be trusted write. A pull request's scope is named after its number, because
// a fork may call its branch main.
//
// The package is pure: it has no input but facts and options, and knows no CI.
package scope

// Facts is what the CI says about a build. An empty string means unknown. The zero value is an
// untrusted build outside every CI and checkout: it reads nothing and writes nothing.
type Facts struct {
	CI      string `json:"ci"`      // "github" or another name of internal/ci's table, for display only; "" outside a CI and a checkout
	Event   string `json:"event"`   // what started the build, in the CI's own term: "push", "merge_request_event"
	Branch  string `json:"branch"`  // built branch; for a pull request its head branch, whose name a fork can choose
	Base    string `json:"base"`    // branch that a pull request or a merge queue merges into
	Default string `json:"default"` // the repository's default branch
	Tag     string `json:"tag"`     // built tag
	PR      int    `json:"pr"`      // pull or merge request; 0 for none, UnknownPR for an unknown number
	Trusted bool   `json:"trusted"` // false: read, never write

	// Untrusted says why Trusted is false, as a phrase: "a fork's pull request".
	Untrusted string `json:"doubt,omitempty"`
	// Queue marks a build for the merge queue, or merge train, of Base. It is Trusted only where the
	// CI itself says that Base's queue started it; the name of a branch is no such word.
	Queue bool `json:"queue,omitempty"`
	// MayQueue marks a branch that may have a merge queue, where the CI says neither that it is
	// protected nor that it is not. Its builds, and those of Protected branches, read what was queued.
	MayQueue bool `json:"mayQueue,omitempty"`
	// Unlisted marks an event that does not say whose code is built. Its builds read the
	// default branch alone, and write no branch's scope, whatever the options say.
	Unlisted bool `json:"unlisted,omitempty"`
	// Protected marks the default branch, and refs that the CI calls protected. Their builds
	// never read a pull request's scope.
	Protected bool `json:"protected,omitempty"`

	// Unreadable says why the nearest Git repository does not tell its branch, outside a CI:
	// ".git/HEAD names neither a branch nor a commit".
	Unreadable string `json:"unreadable,omitempty"`

	Commit string `json:"commit,omitempty"` // full hash
	Repo   string `json:"repo,omitempty"`   // "owner/name", with the host where the CI has no host of its own
	URL    string `json:"url,omitempty"`    // page of this run
}

// UnknownPR is the PR of a pull request whose number is unknown. Such a build writes nothing, with
// any options, because a pull request's scope is named after its number.
const UnknownPR = -1

// Reasons of [Facts].Untrusted on which rules depend.
const (
	UnknownNumber = "a pull request whose number is not known"                                        // such a build writes nothing
	Fork          = "a fork's pull request"                                                           // Trusted true gives a warning
	ForkRun       = "a run for a fork's code"                                                         // the same
	UnknownCI     = "this CI is unknown, and so is whose code it builds"                              // an untrusted build gives a warning
	NoPerson      = "neither a known CI nor a terminal outside a container shows whose code is built" // the same
	NoBranch      = "a pull request whose head is not a branch of this repository"                    // the same
	Closed        = "a closed pull request: no later build would read its cache"                      // of this repository; a prune is trusted
)

// Source is one scope to read.
type Source struct {
	Name Name `json:"name"`
	// Why is "own branch", "own pull request", "own tag", "own merge queue", [QueueOfBranch],
	// "head branch", "base branch", "fallback branch", "default branch" or "outside a checkout".
	Why string `json:"why"`
}

// QueueOfBranch is the Why of the scope of a branch's merge queue. CIs do not say which branches have
// a queue, so it is read for branches that may have one, and often absent.
const QueueOfBranch = "merge queue"

// Plan says what a build reads and writes.
type Plan struct {
	Facts Facts  `json:"facts"`         // as detected, with the options applied
	Key   string `json:"key,omitempty"` // the image's part of every name, "" for none
	Write Name   `json:"write"`         // "": export nothing
	// Why is a phrase with the reason why Write is written, or why nothing is:
	// "push to main", "a fork's pull request".
	Why      string   `json:"why"`
	Read     []Source `json:"read"` // nearest first, each name once; never nil
	Warnings []string `json:"warnings,omitempty"`
}

// Values of Options.Write, the input cache-write.
const (
	WriteAuto   = "auto"   // by the trust rules
	WriteAlways = "always" // even where the trust rules forbid it
	WriteNever  = "never"  // read only
)

// Options override what was detected. A zero field changes nothing. Only Trusted can make a
// build trusted. The fields combine as follows:
//
//   - Branch replaces the built branch, and turns a tag's build into that branch's. A pull
//     request keeps its own scope; only its head branch changes, which trusted builds read. A
//     merge queue keeps its own scope too, unless Write is "always": it then writes the branch's.
//   - Base and Default replace the detected ones. With Base set, builds without a base branch,
//     such as a push's, read it too. A merge queue's own scope is that of Base.
//   - PR makes every build, except a merge queue's, the build of that pull request. On a
//     protected branch it then writes nothing, since such a build may not read a pull
//     request's scope.
//   - Trusted true lets a fork's pull request read and write like one of this repository, and
//     an event that does not say whose code it builds read like a push, both with a warning.
//     Trusted false makes every build read like a fork's: the scopes of base, fallbacks and
//     default branch, without its own. (Write "never" reads the own scope and leaves it
//     unchanged.) A merge queue's build reads the queue's scope with either.
//   - Write "always" overrides the trust rules about writing, and keeps those about names: an
//     untrusted pull request writes the scope of its number, never a branch's. A pull request
//     with an unknown number still writes nothing, and so does an untrusted merge queue without
//     Branch: builds of its base branch read its scope.
//   - An event that does not say whose code it builds writes the scope of its pull request or
//     nothing, with all options.
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
