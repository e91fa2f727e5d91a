package scope

import (
	"slices"
	"strings"
	"testing"
)

// The builds that all options are tried with.
var (
	pushMain    = Facts{CI: "github", Event: "push", Branch: "main", Default: "main", Trusted: true, Protected: true}
	pushFix     = Facts{CI: "github", Event: "push", Branch: "fix", Default: "main", Trusted: true}
	pullRequest = Facts{CI: "github", Event: "pull_request", Branch: "fix", Base: "dev", Default: "main", PR: 7, Trusted: true}
	fork        = Facts{CI: "github", Event: "pull_request", Branch: "main", Base: "dev", Default: "main", PR: 7, Untrusted: Fork}
	nameless    = Facts{CI: "buildkite", Branch: "main", Base: "dev", Default: "main", PR: UnknownPR, Untrusted: UnknownNumber}
	queue       = Facts{CI: "github", Event: "merge_group", Branch: "gh-readonly-queue/dev/pr-7-abc", Base: "dev", Default: "main", Queue: true, Trusted: true}
	named       = Facts{CI: "circleci", Branch: "gh-readonly-queue/dev/pr-7-abc", Base: "dev", Default: "main", Queue: true, Untrusted: "only a name"}
	train       = Facts{CI: "gitlab", Event: "merge_request_event", Branch: "fix", Base: "dev", Default: "main", PR: 7, Queue: true, Trusted: true}
	forkTrain   = Facts{CI: "gitlab", Event: "merge_request_event", Branch: "main", Base: "dev", Default: "main", PR: 7, Queue: true, Untrusted: Fork}
	tag         = Facts{CI: "github", Event: "push", Tag: "v1", Default: "main", Trusted: true}
	comment     = Facts{CI: "github", Event: "issue_comment", Branch: "main", Default: "main", Unlisted: true, Untrusted: "event issue_comment does not say whose code is built"}
	target      = Facts{CI: "github", Event: "pull_request_target", Branch: "main", Base: "dev", Default: "main", PR: 7, Unlisted: true}
	protected   = Facts{CI: "gitlab", Event: "merge_request_event", Branch: "dev", Base: "main", Default: "main", PR: 7, Trusted: true, Protected: true}
	unknownCI   = Facts{CI: "unknown", Branch: "fix", Default: "main", Untrusted: "this CI is not known"}
	shell       = Facts{CI: "git", Branch: "fix", Default: "main", Trusted: true}
	nowhere     = Facts{Trusted: true}
)

// neverUnlisted is why an unlisted event writes nothing that the user calls trusted.
const neverUnlisted = "an event that does not say whose code it builds writes no branch's cache"

func yes() *bool { b := true; return &b }
func no() *bool  { return new(bool) }

func TestNew(t *testing.T) {
	t.Parallel()
	more := []string{"dev", "", "next", "main", "next"}
	for _, tt := range []struct {
		name    string
		facts   Facts
		options Options
		write   Name
		read    string // names, nearest first
		why     string
	}{
		{"push to the default branch", pushMain, Options{Fallbacks: more}, "b-main", "b-main q-main", "push to main"},
		{"push to another branch", pushFix, Options{Fallbacks: more}, "b-fix", "b-fix b-dev b-next b-main", "push to fix"},
		{"pull request", pullRequest, Options{Fallbacks: more}, "pr-7", "pr-7 b-fix b-dev b-next b-main", "pull request 7"},
		{"fork", fork, Options{Fallbacks: more}, "", "b-dev b-next b-main", "a fork's pull request"},
		{"unknown number", nameless, Options{Fallbacks: more}, "", "b-dev b-next b-main", "a pull request whose number is not known"},
		{"push to a protected branch", Facts{Event: "push", Branch: "dev", Default: "main", Trusted: true, Protected: true}, Options{Fallbacks: more}, "b-dev", "b-dev q-dev b-next b-main", "push to dev"},
		{"push to a branch that may have a queue", Facts{Event: "push", Branch: "dev", Default: "main", Trusted: true, MayQueue: true}, Options{}, "b-dev", "b-dev q-dev b-main", "push to dev"},
		{"merge queue", queue, Options{Fallbacks: more}, "q-dev", "q-dev b-dev b-main", "merge queue of dev"},
		{"merge queue of the default branch", Facts{Base: "main", Default: "main", Queue: true, Trusted: true}, Options{}, "q-main", "q-main b-main", "merge queue of main"},
		{"merge queue of an image with a key", queue, Options{Key: "web"}, "q-dev.web", "q-dev.web b-dev.web b-main.web", "merge queue of dev"},
		{"merge queue without a base", Facts{Default: "main", Queue: true, Trusted: true}, Options{Write: "always"}, "", "b-main", "the branch that the merge queue merges into is not known: set base-branch"},
		{"merge queue by its name", named, Options{Fallbacks: more}, "", "q-dev b-dev b-main", "only a name"},
		{"merge train", train, Options{Fallbacks: more}, "q-dev", "q-dev b-dev b-main", "merge queue of dev"},
		{"merge train of a fork", forkTrain, Options{Fallbacks: more}, "", "q-dev b-dev b-main", "a fork's pull request"},
		{"tag", tag, Options{Fallbacks: more}, "", "b-dev b-next b-main", "a tag writes only with cache-write: always"},
		{"unlisted event", comment, Options{Fallbacks: more}, "", "b-main", "event issue_comment does not say whose code is built"},
		{"unlisted event of a pull request", target, Options{Fallbacks: more}, "", "b-main", "not known to be trusted"},
		{"protected merge request", protected, Options{Fallbacks: more}, "", "b-dev b-main b-next", "a protected branch's pull request: its cache would not be read"},
		{"unknown CI", unknownCI, Options{Fallbacks: more}, "", "b-dev b-next b-main", "this CI is not known"},
		{"shell", shell, Options{Fallbacks: more}, "b-fix", "b-fix b-dev b-next b-main", "branch fix"},
		{"nowhere", nowhere, Options{}, "local", "local", "outside a CI and a checkout"},
		{"nowhere, of an image with a key", nowhere, Options{Key: "web"}, "local.web", "local.web", "outside a CI and a checkout"},
		{"nowhere, with branches", nowhere, Options{Fallbacks: more, Default: "main"}, "local", "local b-dev b-next b-main", "outside a CI and a checkout"},
		{"nowhere, with a branch of its own", nowhere, Options{Branch: "local"}, "b-local", "b-local", "branch local"},
		{"nowhere, untrusted", Facts{Untrusted: NoPerson}, Options{}, "", "", NoPerson},
		{"nowhere, read only", nowhere, Options{Write: "never"}, "", "local", "cache-write: never"},
		{"a CI without a ref", Facts{CI: "unknown", Trusted: true}, Options{}, "", "", "no branch, tag or pull request is known: set branch"},
		{"a detached checkout", Facts{CI: "git", Trusted: true}, Options{}, "", "", "no branch, tag or pull request is known: set branch"},
		{"no facts", Facts{}, Options{}, "", "", "not known to be trusted"},
		{"unlisted, but declared as trusted", Facts{Branch: "main", Default: "main", Trusted: true, Unlisted: true}, Options{}, "", "b-main", "not known to be trusted"},

		{"always: branch", pushFix, Options{Write: "always"}, "b-fix", "b-fix b-main", "push to fix"},
		{"always: pull request", pullRequest, Options{Write: "always"}, "pr-7", "pr-7 b-fix b-dev b-main", "pull request 7"},
		{"always: fork", fork, Options{Write: "always"}, "pr-7", "pr-7 b-dev b-main", "pull request 7 (cache-write: always)"},
		{"always: unknown number", nameless, Options{Write: "always"}, "", "b-dev b-main", "a pull request whose number is not known"},
		{"always: merge queue", queue, Options{Write: "always"}, "q-dev", "q-dev b-dev b-main", "merge queue of dev"},
		{"always: merge queue by its name", named, Options{Write: "always"}, "", "q-dev b-dev b-main", "only a name"},
		{"always: merge train of a fork", forkTrain, Options{Write: "always"}, "", "q-dev b-dev b-main", "a fork's pull request"},
		{"always: tag", tag, Options{Write: "always"}, "t-v1", "t-v1 b-main", "tag v1 (cache-write: always)"},
		{"always: unlisted event", comment, Options{Write: "always"}, "", "b-main", "event issue_comment does not say whose code is built"},
		{"always: unlisted event of a pull request", target, Options{Write: "always"}, "pr-7", "pr-7 b-main", "pull request 7 (cache-write: always)"},
		{"always: protected merge request", protected, Options{Write: "always"}, "pr-7", "b-dev b-main", "pull request 7 (cache-write: always)"},
		{"always: unknown CI", unknownCI, Options{Write: "always"}, "b-fix", "b-fix b-main", "branch fix (cache-write: always)"},
		{"always: nowhere", nowhere, Options{Write: "always"}, "local", "local", "outside a CI and a checkout"},

		{"auto", pushFix, Options{Write: "auto"}, "b-fix", "b-fix b-main", "push to fix"},
		{"never: branch", pushFix, Options{Write: "never"}, "", "b-fix b-main", "cache-write: never"},
		{"never: pull request", pullRequest, Options{Write: "never"}, "", "pr-7 b-fix b-dev b-main", "cache-write: never"},
		{"never: fork", fork, Options{Write: "never"}, "", "b-dev b-main", "cache-write: never"},
		{"unknown cache-write", pushFix, Options{Write: "Always"}, "", "b-fix b-main", "cache-write: Always"},

		{"trusted: fork", fork, Options{Trusted: yes()}, "pr-7", "pr-7 b-main b-dev", "pull request 7"},
		{"trusted: unknown number", nameless, Options{Trusted: yes()}, "", "b-main b-dev", "a pull request whose number is not known"},
		{"trusted, always: unknown number", nameless, Options{Trusted: yes(), Write: "always"}, "", "b-main b-dev", "a pull request whose number is not known"},
		{"never: merge queue", queue, Options{Write: "never"}, "", "q-dev b-dev b-main", "cache-write: never"},
		{"trusted: merge queue by its name", named, Options{Trusted: yes()}, "q-dev", "q-dev b-dev b-main", "merge queue of dev"},
		{"trusted: merge train of a fork", forkTrain, Options{Trusted: yes()}, "q-dev", "q-dev b-dev b-main", "merge queue of dev"},
		{"trusted, always: unlisted merge queue", Facts{Base: "dev", PR: 7, Queue: true, Unlisted: true}, Options{Trusted: yes(), Write: "always", Branch: "x"}, "", "b-x q-dev b-dev", neverUnlisted},
		{"trusted: tag", tag, Options{Trusted: yes()}, "", "b-main", "a tag writes only with cache-write: always"},
		{"trusted: unlisted event", comment, Options{Trusted: yes()}, "", "b-main", neverUnlisted},
		{"trusted, always: unlisted event", comment, Options{Trusted: yes(), Write: "always"}, "", "b-main", neverUnlisted},
		{"trusted, always: unlisted event on another branch", comment, Options{Trusted: yes(), Write: "always", Branch: "x", Fallbacks: more}, "", "b-x b-dev b-next b-main", neverUnlisted},
		{"trusted, always: unlisted event of a tag", Facts{Tag: "v1", Default: "main", Unlisted: true}, Options{Trusted: yes(), Write: "always"}, "", "b-main", neverUnlisted},
		{"pull-request, always: unlisted event", comment, Options{PR: 9, Write: "always"}, "pr-9", "pr-9 b-main", "pull request 9 (cache-write: always)"},
		{"trusted: unlisted event of a pull request", target, Options{Trusted: yes()}, "pr-7", "pr-7 b-main b-dev", "pull request 7"},
		{"trusted: unknown CI", unknownCI, Options{Trusted: yes()}, "b-fix", "b-fix b-main", "branch fix"},

		{"untrusted: default branch", pushMain, Options{Trusted: no(), Fallbacks: more}, "", "b-dev b-next b-main", "trusted: false"},
		{"untrusted: branch", pushFix, Options{Trusted: no()}, "", "b-main", "trusted: false"},
		{"untrusted: pull request", pullRequest, Options{Trusted: no()}, "", "b-dev b-main", "trusted: false"},
		{"untrusted: merge queue", queue, Options{Trusted: no()}, "", "q-dev b-dev b-main", "trusted: false"},
		{"untrusted: tag", tag, Options{Trusted: no()}, "", "b-main", "trusted: false"},
		{"untrusted: shell", shell, Options{Trusted: no()}, "", "b-main", "trusted: false"},
		{"untrusted: unlisted event", comment, Options{Trusted: no()}, "", "b-main", "trusted: false"},
		{"untrusted, always: branch", pushFix, Options{Trusted: no(), Write: "always"}, "b-fix", "b-fix b-main", "push to fix (cache-write: always)"},

		{"branch: push", pushFix, Options{Branch: "x"}, "b-x", "b-x b-main", "push to x"},
		{"branch: default", pushFix, Options{Branch: "main"}, "b-main", "b-main", "push to main"},
		{"branch: pull request", pullRequest, Options{Branch: "x"}, "pr-7", "pr-7 b-x b-dev b-main", "pull request 7"},
		{"branch: fork", fork, Options{Branch: "x"}, "", "b-dev b-main", "a fork's pull request"},
		{"branch, always: fork", fork, Options{Branch: "x", Write: "always"}, "pr-7", "pr-7 b-dev b-main", "pull request 7 (cache-write: always)"},
		{"branch, always: unknown number", nameless, Options{Branch: "x", Write: "always", Trusted: yes()}, "", "b-x b-dev b-main", "a pull request whose number is not known"},
		{"branch: merge queue", queue, Options{Branch: "x"}, "q-dev", "q-dev b-dev b-main", "merge queue of dev"},
		{"branch, always: merge queue", queue, Options{Branch: "x", Write: "always"}, "b-x", "b-x q-dev b-dev b-main", "merge queue of dev, as branch x"},
		{"branch, always: merge queue by its name", named, Options{Branch: "x", Write: "always"}, "b-x", "b-x q-dev b-dev b-main", "merge queue of dev, as branch x (cache-write: always)"},
		{"branch, never: merge queue by its name", named, Options{Branch: "x", Write: "never"}, "", "q-dev b-dev b-main", "cache-write: never"},
		{"branch, always: merge train", train, Options{Branch: "x", Write: "always"}, "b-x", "b-x q-dev b-dev b-main", "merge queue of dev, as branch x"},
		{"branch, always: merge train of a fork", forkTrain, Options{Branch: "x", Write: "always"}, "", "q-dev b-dev b-main", "a fork's pull request"},
		{"branch: tag", tag, Options{Branch: "x"}, "b-x", "b-x b-main", "push to x"},
		{"branch: unlisted event", comment, Options{Branch: "x"}, "", "b-main", "event issue_comment does not say whose code is built"},
		{"branch: unknown CI", unknownCI, Options{Branch: "x"}, "", "b-main", "this CI is not known"},
		{"branch: nowhere", nowhere, Options{Branch: "x"}, "b-x", "b-x", "branch x"},

		{"base: push", pushFix, Options{Base: "x"}, "b-fix", "b-fix b-x b-main", "push to fix"},
		{"base: fork", fork, Options{Base: "x"}, "", "b-x b-main", "a fork's pull request"},
		{"base: merge queue", queue, Options{Base: "x"}, "q-x", "q-x b-x b-main", "merge queue of x"},
		{"base: unlisted event", target, Options{Base: "x"}, "", "b-main", "not known to be trusted"},
		{"default: push", pushFix, Options{Default: "fix"}, "b-fix", "b-fix", "push to fix"},
		{"default: nowhere", nowhere, Options{Default: "x"}, "local", "local b-x", "outside a CI and a checkout"},

		{"pull-request: push", pushFix, Options{PR: 9}, "pr-9", "pr-9 b-fix b-main", "pull request 9"},
		{"pull-request: default branch", pushMain, Options{PR: 9}, "", "b-main", "a protected branch's pull request: its cache would not be read"},
		{"pull-request: fork", fork, Options{PR: 9}, "", "b-dev b-main", "a fork's pull request"},
		{"pull-request, always: unknown number", nameless, Options{PR: 9, Write: "always"}, "pr-9", "pr-9 b-dev b-main", "pull request 9 (cache-write: always)"},
		{"pull-request: tag", tag, Options{PR: 9}, "pr-9", "pr-9 b-main", "pull request 9"},
		{"pull-request: merge queue", queue, Options{PR: 9, Write: "always", Trusted: yes()}, "q-dev", "q-dev b-dev b-main", "merge queue of dev"},
		{"pull-request: shell", shell, Options{PR: 9, Base: "dev"}, "pr-9", "pr-9 b-fix b-dev b-main", "pull request 9"},
		{"pull-request: negative", pushFix, Options{PR: UnknownPR}, "b-fix", "b-fix b-main", "push to fix"},

		{"fallbacks: own and pull-request look-alikes", pushFix, Options{Fallbacks: []string{"fix", "pr-7", "main"}}, "b-fix", "b-fix b-pr-7-c1cec5c4a6eb6fe4 b-main", "push to fix"},
		{"key", pullRequest, Options{Key: "web"}, "pr-7.web", "pr-7.web b-fix.web b-dev.web b-main.web", "pull request 7"},
		{"unprintable branch", pushFix, Options{Branch: "a\nb"}, "b-a-b-7e18f737311b2dc3", "b-a-b-7e18f737311b2dc3 b-main", `push to "a\nb"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := New(tt.facts, tt.options)
			var read []string
			for _, s := range p.Read {
				read = append(read, string(s.Name))
			}
			if got := strings.Join(read, " "); got != tt.read {
				t.Errorf("read %q, want %q", got, tt.read)
			}
			if p.Write != tt.write || p.Why != tt.why {
				t.Errorf("write %q (%s), want %q (%s)", p.Write, p.Why, tt.write, tt.why)
			}
		})
	}
}

func TestNewSaysWhyEachIsRead(t *testing.T) {
	t.Parallel()
	got := New(pullRequest, Options{Fallbacks: []string{"next", "dev"}}).Read
	want := []Source{
		{"pr-7", "own pull request"}, {"b-fix", "head branch"}, {"b-dev", "base branch"},
		{"b-next", "fallback branch"}, {"b-main", "default branch"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	if got, want := New(queue, Options{}).Read, []Source{{"q-dev", "own merge queue"}, {"b-dev", "base branch"}, {"b-main", "default branch"}}; !slices.Equal(got, want) {
		t.Errorf("a merge queue reads %v, want %v", got, want)
	}
	if got := New(pushMain, Options{}).Read[1]; got != (Source{"q-main", QueueOfBranch}) {
		t.Errorf("the second scope of a push to main is %v", got)
	}
	if got := New(pushMain, Options{}).Read[0].Why; got != "own branch" {
		t.Errorf("a scope that is own and default is read as %q, want the nearer", got)
	}
	if got := New(tag, Options{Write: "always"}).Read[0].Why; got != "own tag" {
		t.Errorf("own tag is read as %q", got)
	}
}

func TestNewWarnsOfAnUntrustedWriter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		facts Facts
		write string
		want  string
	}{
		{fork, "always", "cache-write: always: pr-7 is written by an untrusted build (a fork's pull request): " +
			"whoever can start one can plant layers there, and every build that reads pr-7 uses them"},
		{unknownCI, "always", "cache-write: always: b-fix is written by an untrusted build (this CI is not known): " +
			"whoever can start one can plant layers there, and every build that reads b-fix uses them"},
		{named, "always", ""}, {forkTrain, "always", ""},
		{comment, "always", ""},
		{fork, "auto", ""}, {nameless, "always", ""}, {queue, "always", ""}, {tag, "always", ""}, {pullRequest, "always", ""},
	} {
		if got := strings.Join(New(tt.facts, Options{Write: tt.write}).Warnings, "\n"); got != tt.want {
			t.Errorf("%s, cache-write %s: warnings %q, want %q", tt.facts.Event, tt.write, got, tt.want)
		}
	}
}

// trusted: true warns where the CI says that the code may be anyone's, and only there.
func TestNewWarnsOfTrusted(t *testing.T) {
	t.Parallel()
	run := Facts{CI: "github", Event: "workflow_run", Branch: "main", Default: "main", Unlisted: true, Untrusted: ForkRun}
	for _, tt := range []struct {
		facts   Facts
		reports string // "": no warning
	}{
		{fork, "a fork's pull request"}, {run, "a run for a fork's code"},
		{comment, "event issue_comment does not say whose code is built"}, {target, "not known to be trusted"},
		{unknownCI, ""}, {pullRequest, ""}, {pushMain, ""}, {queue, ""}, {named, ""}, {shell, ""}, {forkTrain, "a fork's pull request"},
	} {
		want := ""
		if tt.reports != "" {
			want = "trusted: true: this run counts as trusted, although the CI reports " + tt.reports +
				": its Dockerfile may use the credentials of the job and of the machine"
		}
		if got := strings.Join(New(tt.facts, Options{Trusted: yes()}).Warnings, "\n"); got != want {
			t.Errorf("%s: warnings %q, want %q", tt.facts.Event, got, want)
		}
		if got := New(tt.facts, Options{Trusted: no()}).Warnings; len(got) > 0 {
			t.Errorf("%s, trusted: false: warnings %q", tt.facts.Event, got)
		}
	}
}

func TestNewAppliesOptionsToFacts(t *testing.T) {
	t.Parallel()
	got := New(target, Options{Branch: "a", Base: "b", Default: "c", PR: 9, Trusted: yes(), Key: "Web"})
	want := Facts{CI: "github", Event: "pull_request_target", Branch: "a", Base: "b", Default: "c", PR: 9, Trusted: true, Unlisted: true}
	if got.Facts != want {
		t.Errorf("facts %+v, want %+v", got.Facts, want)
	}
	if got.Key != Slug("Web") || !strings.HasSuffix(string(got.Write), "."+got.Key) {
		t.Errorf("key %q in %q, want %q", got.Key, got.Write, Slug("Web"))
	}
	if p := New(Facts{}, Options{}); p.Read == nil || p.Key != "" {
		t.Errorf("read %#v, key %q: want an empty list, for JSON, and no key", p.Read, p.Key)
	}
}
