// Package report describes what a build did: in the log, in a job summary, in the step's
// outputs and in files. All of these are written through a [Redactor].
//
//	redactor := report.NewRedactor(secrets)
//	out := redactor.Writer(os.Stderr)
//	r := report.Report{Plan: plan, Builder: "embedded", Result: result, Err: err, Seconds: 2.1}
//	err = errors.Join(r.Console(out), r.Publish(places, redactor.String), out.Close())
//
// It knows no CI by name: a [ci.Dialect] has the forms of each.
//
// The first build of a feature branch, on an empty builder, prints
//
//	warmlayer: b-feature-a-951d42dc02dc7431 (push to feature/a)
//	  read   absent  own branch      b-feature-a-951d42dc02dc7431  local /var/cache/app
//	         loaded  default branch  b-main                  local /var/cache/app
//	  steps  5 of 5 cached
//	  write  written  b-feature-a-951d42dc02dc7431  local /var/cache/app  0.4s
//	  image  sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d
//	         ghcr.io/o/app:feature-a
//	  time   start builder 0.6s · build 0.4s · push 0.1s · export cache 0.4s · total 2.1s
package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachemounts"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/timing"
	"github.com/warmlayer/warmlayer/scope"
)

// Report is one build that has ended. Its texts are untrusted: the author of a build chooses
// names and messages, and each form of the report escapes them.
type Report struct {
	Version  string // of warmlayer
	Plan     scope.Plan
	Builder  string // "embedded", or the address of the BuildKit that was used; "" for none
	State    string // what became of the state that the builder keeps; "": it keeps none
	Networks []Network
	Auto     Auto // the zero value: auto is not set, or is a registry beside the image
	Result   solve.Result
	Err      error    // of the build; nil when it succeeded
	Warnings []string // of everything except BuildKit, such as the plan's
	Seconds  float64  // of the whole CI step

	Merged []digest.Digest // the parts that a merge makes one image of, as far as known; nil for a build

	Timings     []timing.Row // where the time went
	ShowTimings bool         // to people too; programs always get them
}

// Network is what the RUN steps of one builder are on that choose no network.
type Network struct {
	Builder string `json:"builder"` // as in Report
	Steps   string `json:"steps"`   // "own", "host", "container", "none", "configured" or "remote"
	Reason  string `json:"reason"`  // why it is not their own
}

// Auto is what the cache auto became, where that is not a registry beside the image.
type Auto struct {
	Cache string `json:"cache"` // "local /var/cache/app"
	Why   string `json:"why"`   // "the build pushes no image, and this job has no cache of GitHub's"
}

// String is for people; "" for the zero value.
func (a Auto) String() string {
	if a.Why == "" {
		return ""
	}
	return a.Cache + ", because " + a.Why
}

// before is how many steps were cached in the last build that wrote this build's scope: "9 of 9 in
// the scope's last build". It is "" where that is not known.
func (r Report) before() string {
	for _, s := range r.Result.Sources {
		if s.Steps > 0 && s.Name == string(r.Plan.Write) {
			return fmt.Sprintf("%d of %d in the scope's last build", s.Hits, s.Steps)
		}
	}
	return ""
}

// shown are the sources that a person reads about: all except merge queues that a branch does not
// have. The JSON file has those too.
func (r Report) shown() []cacheplan.Source {
	return slices.DeleteFunc(slices.Clone(r.Result.Sources), func(s cacheplan.Source) bool {
		return s.Why == scope.QueueOfBranch && s.State == cacheplan.Absent
	})
}

// ratio is the share of cached steps with two decimals, rounded down: "1.00" means all steps.
// Without steps it is "".
func (r Report) ratio() string {
	if len(r.Result.Steps) == 0 {
		return ""
	}
	percent := 100 * r.Result.Hits() / len(r.Result.Steps)
	return fmt.Sprintf("%d.%02d", percent/100, percent%100)
}

// firstMiss is the name of the first step that was not cached, "" for none.
func (r Report) firstMiss() string {
	i := slices.IndexFunc(r.Result.Steps, func(s solve.Step) bool { return !s.Cached })
	if i < 0 {
		return ""
	}
	return r.Result.Steps[i].Name
}

// failed is the name of the step that made the build fail, "" for none.
func (r Report) failed() string {
	i := slices.IndexFunc(r.Result.Steps, func(s solve.Step) bool { return s.Error != "" && !cancelled(s) })
	if i < 0 {
		return ""
	}
	return r.Result.Steps[i].Name
}

// cancelled reports whether a step was stopped because another one had failed, or because the
// build was cancelled.
func cancelled(s solve.Step) bool { return strings.Contains(s.Error, context.Canceled.Error()) }

// tags are the names of the image.
func (r Report) tags() []string { return names(r.Result.Metadata) }

// warnings are the texts of all warnings, each once.
func (r Report) warnings() []string {
	var all []string
	known := map[string]bool{}
	add := func(text string) {
		if !known[text] {
			known[text] = true
			all = append(all, text)
		}
	}
	for _, w := range r.Warnings {
		add(w)
	}
	if said := cachemounts.Warning(r.Result.Mounts); said != "" {
		add(said)
	}
	for _, w := range r.Result.Warnings {
		add(w.Text)
	}
	return all
}

// outcome is the outcome of all exports together: failed if one failed, else written if one
// was written, else unchanged if one was unchanged, else skipped.
func (r Report) outcome() solve.Outcome {
	for _, o := range []solve.Outcome{solve.Broken, solve.Written, solve.Unchanged} {
		if slices.ContainsFunc(r.Result.Exports, func(e solve.Export) bool { return e.Outcome == o }) {
			return o
		}
	}
	return solve.Skipped
}

// reason is why a source failed, why not all of it was used, or why it must not be read. A scope
// that is simply absent has the reason "".
func reason(s cacheplan.Source) string {
	var withheld backends.Withheld
	if s.Faulty() || errors.As(s.Err, &withheld) {
		return message(s.Err)
	}
	return ""
}

// message is the text of an error, "" for nil.
func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// duration shows seconds: "0.4s", "2m05s".
func duration(seconds float64) string {
	if seconds < 59.95 {
		return fmt.Sprintf("%.1fs", seconds)
	}
	whole := int(seconds + 0.5)
	return fmt.Sprintf("%dm%02ds", whole/60, whole%60)
}

// phases shows the seconds of each phase, and of the whole step.
func (r Report) phases() string {
	var parts []string
	for _, p := range r.Result.Phases {
		parts = append(parts, syntax.Line(p.Name)+" "+duration(p.Seconds))
	}
	return strings.Join(append(parts, "total "+duration(r.Seconds)), " · ")
}
