package step

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/docker/cli/cli/config"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/solve"
)

// outcome is what came of the builds on all builders.
type outcome struct {
	result   solve.Result
	address  string   // of the builder, or of each of several; "" where none started
	warnings []string // about what was found out while it ran
	err      error
}

// Build builds, reports and returns the exit code.
func (r Run) Build(ctx context.Context) int {
	began := time.Now()
	unmasked := r.mask(ctx)
	section := ci.Section{Title: "Build", Began: began}
	fmt.Fprint(r.host.Stderr, r.host.CI.Begin(section))
	made := r.privately(func() outcome { return r.solve(ctx) })
	fmt.Fprint(r.host.Stderr, r.host.CI.End(section, time.Now(), made.err != nil))
	told := report.Report{
		Version: r.host.Version, Plan: r.Plan(), Builder: made.address, Result: made.result, Err: made.err,
		Warnings: slices.Concat(r.warnings(), made.warnings, unmasked), Seconds: time.Since(began).Seconds(),
	}
	return r.publish(ctx, told)
}

// publish tells people and machines what came of the run, and returns the exit code.
func (r Run) publish(ctx context.Context, told report.Report) int {
	out := r.host.Redactor.Writer(r.host.Stderr)
	err := errors.Join(r.answer(told.Result.Answer), r.annotate(told), told.Console(out), out.Close())
	code := r.exitCode(ctx, told)
	if err := errors.Join(err, told.Publish(r.places(), r.host.Redactor.String)); err != nil {
		fmt.Fprintln(r.host.Stderr, r.host.Redactor.String("report: "+err.Error()))
		code = max(code, ExitBuild)
	}
	r.show(ctx, told)
	return code
}

// answer writes what the frontend answered about the Dockerfile to standard output.
func (r Run) answer(text string) error {
	out := r.host.Redactor.Log(r.host.CI, r.host.Stdout)
	_, err := io.WriteString(out, text)
	return errors.Join(err, out.Close())
}

// warnings are about what was asked for.
func (r Run) warnings() []string {
	all := slices.Concat(r.planWarnings(), r.registries.Warnings())
	if len(r.Inputs.Outputs) > 0 || r.Inputs.CacheOnly || r.asks() {
		return all
	}
	return append(all, "no outputs: the result stays in the builder; set push or outputs, or outputs: type=cacheonly")
}

// asks tells whether the frontend is asked about the Dockerfile, and nothing is built.
func (r Run) asks() bool { return r.Inputs.Call != "" }

// privately has BuildKit's auth provider keep its token seeds in a private directory. It writes
// one for each registry that it has credentials for (v0.33.1, session/auth/authprovider), by
// default into the user's Docker config.
func (r Run) privately(run func() outcome) outcome {
	dir, err := os.MkdirTemp(r.host.Environ.Get("TMPDIR"), "warmlayer-tokens-")
	if err != nil {
		return outcome{err: fmt.Errorf("make a private directory: %w", err)}
	}
	config.SetDir(dir)
	made := run()
	made.err = errors.Join(made.err, os.RemoveAll(dir))
	return made
}

// exitCode is that of a cancelled build, of a failed one, or of a cache that was not allowed to fail.
func (r Run) exitCode(ctx context.Context, told report.Report) int {
	switch {
	case ctx.Err() != nil:
		return ExitCancelled
	case told.Err != nil:
		return ExitBuild
	}
	for _, source := range told.Result.Sources {
		if source.State == cacheplan.Failed && r.Inputs.CacheStrict {
			return ExitCache
		}
	}
	for _, export := range told.Result.Exports {
		if export.Outcome == solve.Broken && (r.Inputs.CacheStrict || export.Strict) {
			return ExitCache
		}
	}
	return ExitOK
}
