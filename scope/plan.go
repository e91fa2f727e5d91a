package scope

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// New applies the options to the facts, and then the trust rules. It is deterministic.
//
// The rules fail closed:
//
//	build                              reads                                       writes
//	default branch                     own                                         own
//	another branch                     own, fallbacks, default                     own
//	one that may have a merge queue    own, the queue's, then as above             own
//	pull request, same repository      own, head branch, base, fallbacks, default  own
//	pull request of a fork, untrusted  base, fallbacks, default                    nothing
//	unlisted event (Facts.Unlisted)    default                                     nothing; never a branch's scope
//	merge queue                        own, base, default                          own
//	the same by its branch's name      the queue's, base, default                  nothing
//	tag                                fallbacks, default                          nothing
//	outside CI and checkout            local, fallbacks, default                   local
//	the same, untrusted                fallbacks, default                          nothing
//
// A scope that is written only because of Write "always" is also read, before all others.
func New(f Facts, o Options) Plan {
	f.Trusted = f.Trusted && !f.Unlisted
	p := Plan{Read: []Source{}, Warnings: o.trustWarnings(f)}
	f = o.override(f)
	p.Facts = f
	if o.Key != "" {
		p.Key = Slug(o.Key)
	}
	own := ownScope(f, o)
	p.Write, p.Why = write(f, o, own.Name)
	if p.Write != "" && !f.Trusted {
		p.Warnings = append(p.Warnings, fmt.Sprintf(
			"cache-write: always: %s is written by an untrusted build (%s): whoever can start one can plant layers there, and every build that reads %[1]s uses them",
			p.Write, untrusted(f)))
	}
	p.read(f, o, own)
	if f.Unreadable != "" && o.Branch == "" {
		p.Warnings = append(p.Warnings, unreadable(f, own.Name))
	}
	return p
}

// unreadable is the warning where a Git repository does not tell which branch is built.
func unreadable(f Facts, own Name) string {
	instead := "no branch is known"
	switch {
	case own != "" && f.nowhere():
		instead = fmt.Sprintf("the build uses the scope %s, as directories without Git do", own)
	case own != "":
		instead = fmt.Sprintf("the build uses the scope %s, of another repository", own)
	}
	return fmt.Sprintf("a Git repository cannot be read, so %s: %s; repair it (git status says what is wrong), or set branch", instead, f.Unreadable)
}

// trustWarnings warn where the input trusted is needed, and where it contradicts what the CI says.
// A CI that says nothing about forks is no contradiction: there the input is the only way to be
// trusted.
func (o Options) trustWarnings(f Facts) []string {
	if o.Trusted == nil && o.Write != WriteAlways && (f.Untrusted == UnknownCI || f.Untrusted == NoPerson) {
		return []string{f.Untrusted + ": this run writes no cache and uses no credentials of the machine; set trusted: true where only people who may push start builds, as in a cron job"}
	}
	contradicts := f.Unlisted || slices.Contains([]string{Fork, ForkRun, NoBranch}, f.Untrusted)
	if o.Trusted == nil || !*o.Trusted || f.Trusted || !contradicts {
		return nil
	}
	return []string{fmt.Sprintf(
		"trusted: true: this run counts as trusted, although the CI reports %s: its Dockerfile may use the credentials of the job and of the machine",
		untrusted(f))}
}

func (o Options) override(f Facts) Facts {
	if o.Branch != "" {
		f.Branch, f.Tag = o.Branch, ""
	}
	if o.Base != "" {
		f.Base = o.Base
	}
	if o.Default != "" {
		f.Default = o.Default
	}
	if o.PR > 0 {
		f.PR = o.PR
	}
	switch {
	case o.Trusted == nil:
	case *o.Trusted:
		f.Trusted, f.Untrusted = true, ""
	default:
		f.Trusted, f.Untrusted = false, "trusted: false"
	}
	return f
}

// ownScope is the scope of the build's own ref. The zero Source means that the ref has none.
func ownScope(f Facts, o Options) Source {
	key := o.Key
	switch {
	case o.branchOfQueue(f):
		return Source{branchName(f.Branch, key), "own branch"}
	case f.Queue && f.Base != "":
		return Source{queueName(f.Base, key), "own merge queue"}
	case f.Queue || f.PR < 0:
		return Source{}
	case f.PR > 0:
		return Source{pullRequestName(f.PR, key), "own pull request"}
	case f.Tag != "":
		return Source{tagName(f.Tag, key), "own tag"}
	case f.Branch != "":
		return Source{branchName(f.Branch, key), "own branch"}
	case f.nowhere():
		return Source{localName(key), "outside a checkout"}
	}
	return Source{}
}

// branchOfQueue reports whether the user names the branch that a merge queue's build writes. For a
// fork's code in a queue no option does.
func (o Options) branchOfQueue(f Facts) bool {
	return f.Queue && o.Branch != "" && o.Write == WriteAlways && (f.Trusted || f.PR == 0)
}

// nowhere reports whether the build runs outside every CI and every checkout.
func (f Facts) nowhere() bool {
	return f.CI == "" && !f.Queue && !f.Unlisted && f.PR == 0 && f.Tag == "" && f.Branch == ""
}

// write returns the name to write, "" for none, and the reason.
func write(f Facts, o Options, own Name) (Name, string) {
	mode := cmp.Or(o.Write, WriteAuto)
	no := refusal(f)
	switch {
	case mode != WriteAuto && mode != WriteAlways:
		return "", "cache-write: " + mode
	case mode == WriteAuto && no != "":
		return "", no
	case f.Queue && !f.Trusted && !o.branchOfQueue(f):
		return "", no
	case f.Queue && own == "":
		return "", "the branch that the merge queue merges into is not known: set base-branch"
	case f.PR < 0 && !f.Queue:
		return "", UnknownNumber
	case f.Unlisted && (f.PR == 0 || f.Queue):
		return "", cmp.Or(f.Untrusted, "an event that does not say whose code it builds writes no branch's cache")
	case own == "":
		return "", "no branch, tag or pull request is known: set branch"
	case no != "":
		return own, subject(f, o) + " (cache-write: always)"
	}
	return own, subject(f, o)
}

// refusal is the reason why the trust rules forbid writing the own scope, "" when they allow it.
func refusal(f Facts) string {
	switch {
	case !f.Trusted:
		return untrusted(f)
	case f.Queue:
		return ""
	case f.PR != 0 && f.Protected:
		return "a protected branch's pull request: its cache would not be read"
	case f.PR == 0 && f.Tag != "":
		return "a tag writes only with cache-write: always"
	}
	return ""
}

func untrusted(f Facts) string {
	return cmp.Or(f.Untrusted, "not known to be trusted")
}

// subject describes what is built: "push to main", "branch main (schedule)", "pull request 7".
func subject(f Facts, o Options) string {
	switch {
	case o.branchOfQueue(f):
		return fmt.Sprintf("merge queue of %s, as branch %s", Printable(f.Base), Printable(f.Branch))
	case f.Queue:
		return "merge queue of " + Printable(f.Base)
	case f.PR > 0:
		return "pull request " + strconv.Itoa(f.PR)
	case f.Tag != "":
		return "tag " + Printable(f.Tag)
	case f.nowhere():
		return "outside a CI and a checkout"
	case f.Event == "push":
		return "push to " + Printable(f.Branch)
	case f.Event == "":
		return "branch " + Printable(f.Branch)
	}
	return fmt.Sprintf("branch %s (%s)", Printable(f.Branch), Printable(f.Event))
}

// Printable quotes s unless it is one plain word: not empty, without spaces or escapes.
func Printable(s string) string {
	if q := strconv.Quote(s); s == "" || q != `"`+s+`"` || strings.Contains(s, " ") {
		return q
	}
	return s
}

// read fills p.Read. An untrusted build does not read the scope of its own branch's name,
// because a fork may have chosen that name.
func (p *Plan) read(f Facts, o Options, own Source) {
	seen := map[Name]bool{"": true}
	add := func(s Source) {
		if !seen[s.Name] {
			seen[s.Name] = true
			p.Read = append(p.Read, s)
		}
	}
	branch := func(name, why string) {
		if name != "" {
			add(Source{branchName(name, o.Key), why})
		}
	}
	onlyDefault := f.Unlisted && !f.Trusted
	onBranch := f.Trusted && f.PR == 0 && f.Tag == "" && f.Branch != ""
	// A build reads the scope that it writes. The exception: a protected ref does not read
	// what a pull request wrote.
	if refusal(f) == "" || p.Write != "" && !(f.Protected && f.PR != 0) {
		add(own)
	}
	switch {
	case onlyDefault:
	case f.Queue && f.Base != "":
		add(Source{queueName(f.Base, o.Key), QueueOfBranch})
	case !f.Queue && onBranch && (f.Protected || f.MayQueue):
		// What was queued for a branch is what the push to it builds.
		add(Source{queueName(f.Branch, o.Key), QueueOfBranch})
	}
	if f.Trusted && f.PR != 0 && !f.Queue {
		branch(f.Branch, "head branch")
	}
	if !onlyDefault {
		branch(f.Base, "base branch")
	}
	onDefault := onBranch && f.Branch == f.Default
	if !onlyDefault && !f.Queue && !onDefault {
		for _, name := range o.Fallbacks {
			branch(name, "fallback branch")
		}
	}
	branch(f.Default, "default branch")
}
