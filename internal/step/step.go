// Package step is one run of the program. [Resolve] makes a [Run] from the inputs, the facts that
// the CI states, and the environment: one [Build] for each builder, each with its plan, its caches
// and its warnings. The run is immutable. [Run.PrintPlan] prints its plan, and [Run.Build]
// executes it:
//
//	run, problems := step.Resolve(values, facts, host)
//	if len(problems) == 0 {
//		os.Exit(run.Build(ctx))
//	}
package step

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config/configfile"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/login"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/scope"
)

// Exit codes of the program.
const (
	ExitOK        = 0
	ExitBuild     = 1   // the build failed
	ExitInput     = 2   // bad input; nothing was started
	ExitCache     = 3   // a cache failed in strict mode, or could not be listed or pruned
	ExitCancelled = 130 // cancelled, as a shell reports SIGINT
)

// Host is the surroundings of a run: its process, its CI and its output.
type Host struct {
	Environ  Environment
	CI       ci.Dialect   // of the CI that runs the process
	Program  string       // this program's absolute path; "": unknown
	Self     builder.Self // the container that the process runs in; zero: none, or it is unknown
	Redactor *report.Redactor
	Version  string // of warmlayer
	Stdout   *os.File
	Stderr   *os.File
}

// Run is one run of the program, resolved by [Resolve].
type Run struct {
	Inputs inputs.Values // as given, for all builders
	Facts  scope.Facts   // as detected, with the inputs that override them applied
	Builds []Build       // one for each builder, or for each target of bake files; at least one

	why        bool // the run asks why steps would not be cached, and builds nothing
	host       Host
	docker     *configfile.ConfigFile
	registries *login.Registries
}

// Build is what one builder does.
type Build struct {
	Inputs   inputs.Values      // for this builder: its platforms, its outputs, its cache-from and cache-to
	Plan     scope.Plan         // which scopes are read and written, and the warnings about that
	Caches   []backends.Backend // where these scopes are kept
	Auto     report.Auto        // what the cache auto became, where that is not a registry
	Warnings []string           // about the caches, in addition to those of the plan
	Builder  builder.Options
}

// name identifies one of several builds by its target, or by its platforms: "linux/amd64", "linux/amd64,linux/386".
func (b Build) name() string {
	return cmp.Or(b.Inputs.Bake.Target, strings.Join(b.Inputs.Platforms, ","))
}

// asks tells whether the build only asks the frontend about the Dockerfile, with the input call.
func (b Build) asks() bool { return b.Inputs.Call != "" }

// bakes tells whether the builds are those of targets.
func (r Run) bakes() bool { return len(r.Inputs.Targets) > 0 }

// Plan combines the plans of all builds: the scopes that they write, separated by commas, all
// scopes that they read, and all warnings, each once.
func (r Run) Plan() scope.Plan {
	all := r.Builds[0].Plan
	all.Read, all.Warnings = slices.Clone(all.Read), r.planWarnings()
	var written []string
	for _, b := range r.Builds {
		if b.Plan.Write != "" {
			written = append(written, string(b.Plan.Write))
		}
		for _, s := range b.Plan.Read {
			if !slices.Contains(all.Read, s) {
				all.Read = append(all.Read, s)
			}
		}
	}
	all.Write = scope.Name(strings.Join(written, ","))
	return all
}

// planWarnings are those of all builds, each once.
func (r Run) planWarnings() []string {
	var all []string
	for _, b := range r.Builds {
		all = addOnce(all, b.Plan.Warnings...)
		all = addOnce(all, b.Warnings...)
	}
	return all
}

// addOnce returns a list with the items that it lacks appended.
func addOnce[T comparable](list []T, items ...T) []T {
	list = slices.Clip(list) // appending must not write to an array that another list shares
	for _, one := range items {
		if !slices.Contains(list, one) {
			list = append(list, one)
		}
	}
	return list
}
