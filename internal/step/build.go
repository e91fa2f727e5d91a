package step

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warmlayer/warmlayer/internal/cachemounts"
	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/timing"
	"github.com/warmlayer/warmlayer/internal/tracing"
)

// outcome is the result of one build, or of the builds on all builders together.
type outcome struct {
	result   solve.Result
	address  string           // of the builder, or of several, separated by commas; "" when none started
	state    string           // what became of the state that the builder keeps; "": it keeps none
	kept     bool             // the builder keeps its state
	inEngine bool             // the builder is the BuildKit inside a container engine
	networks []report.Network // of the builders that started
	warnings []string         // that came up during the build
	err      error
}

// Build runs the build on all builders, publishes the report and returns the exit code.
func (r Run) Build(ctx context.Context) int {
	began := time.Now()
	unmasked := r.mask(ctx)
	section := ci.Section{Title: "Build", Began: began}
	_ = r.command(r.host.CI.Begin(section))
	traced, untraced := tracing.Start(r.host.Environ.Get, r.host.Version)
	made := r.solve(traced.Context(ctx))
	_ = r.command(r.host.CI.End(section, time.Now(), made.err != nil))
	rep := report.Report{
		Version: r.host.Version, Plan: r.Plan(), Builder: made.address, State: made.state, Networks: made.networks, Auto: r.Builds[0].Auto, Result: made.result, Err: made.err,
		Warnings: slices.Concat(r.warnings(made), made.warnings, unmasked), Seconds: time.Since(began).Seconds(),
		Timings: timing.Table(began, made.result.Parts), ShowTimings: r.Inputs.Timings,
	}
	rep.Warnings = append(rep.Warnings, r.trace(ctx, traced, untraced, began, rep)...)
	rep.Warnings = append(rep.Warnings, r.keepBudget(ctx)...)
	if cold := r.cold(made.result); cold != "" && made.err == nil {
		rep.Warnings = append(rep.Warnings, cold)
	}
	return r.publish(ctx, rep)
}

// trace sends the trace of a build, and returns the warnings: none, or why there is no whole trace.
func (r Run) trace(ctx context.Context, t *tracing.Trace, untraced string, began time.Time, rep report.Report) []string {
	sent := t.Send(ctx, tracing.Run{
		Name: "build", Began: began, Ended: time.Now(), Err: rep.Err, Parts: rep.Result.Parts, BuildKit: rep.Result.Traces,
		Attributes: map[string]string{
			"scope": string(rep.Plan.Write), "builder": rep.Builder, "digest": rep.Result.Digest.String(),
			"steps": strconv.Itoa(len(rep.Result.Steps)), "steps.cached": strconv.Itoa(rep.Result.Hits()),
		},
	}, r.host.Redactor.String)
	return slices.DeleteFunc([]string{untraced, sent}, func(text string) bool { return text == "" })
}

// publish writes the report for people and for programs, and returns the exit code.
func (r Run) publish(ctx context.Context, rep report.Report) int {
	out := r.log()
	err := errors.Join(r.answer(rep.Result.Answer), r.annotate(rep), rep.Console(out), out.Close())
	code := r.exitCode(ctx, rep)
	if err := errors.Join(err, rep.Publish(r.places(), r.host.Redactor.String)); err != nil {
		r.say("report: " + err.Error())
		code = max(code, ExitBuild)
	}
	r.show(ctx, rep)
	return code
}

// answer writes the frontend's answer to the input call to standard output.
func (r Run) answer(text string) error {
	out := r.host.Redactor.Log(r.host.Stdout)
	_, err := io.WriteString(out, text)
	return errors.Join(err, out.Close())
}

// warnings are those that do not come up during a build.
func (r Run) warnings(made outcome) []string {
	all := slices.Concat(r.planWarnings(), r.registries.Warnings())
	var without []string
	for _, b := range r.Builds {
		if len(b.Inputs.Outputs) == 0 && !b.Inputs.CacheOnly && !b.asks() {
			without = append(without, b.Inputs.Bake.Target)
		}
	}
	switch {
	case len(without) == 0, made.inEngine:
		return all
	case r.bakes():
		return append(all, "no output for "+strings.Join(without, ", ")+": the results stay in the builder; set push, or output in the bake file")
	}
	return append(all, "no outputs: the result stays in the builder; set push or outputs, or outputs: type=cacheonly")
}

// asks tells whether no build makes anything.
func (r Run) asks() bool {
	return !slices.ContainsFunc(r.Builds, func(b Build) bool { return !b.asks() })
}

// exitCode is the exit code of the run: a cancelled build comes before a failed one, and that
// before a cache that failed in strict mode.
func (r Run) exitCode(ctx context.Context, rep report.Report) int {
	switch {
	case ctx.Err() != nil:
		return ExitCancelled
	case rep.Err != nil:
		return ExitBuild
	}
	for _, source := range rep.Result.Sources {
		if source.Faulty() && r.Inputs.CacheStrict {
			return ExitCache
		}
	}
	if cachemounts.Warning(rep.Result.Mounts) != "" && r.Inputs.CacheStrict {
		return ExitCache
	}
	for _, export := range rep.Result.Exports {
		if export.Outcome == solve.Broken && (r.Inputs.CacheStrict || export.Strict) {
			return ExitCache
		}
	}
	if r.cold(rep.Result) != "" {
		return ExitCache
	}
	return ExitOK
}

// cold says that fewer steps were cached than fail-below asks for; "" where enough were, or where
// there were none.
func (r Run) cold(result solve.Result) string {
	hits, steps := result.Hits(), len(result.Steps)
	if steps == 0 || float64(hits)/float64(steps) >= r.Inputs.FailBelow {
		return ""
	}
	return fmt.Sprintf("fail-below: %d of %d steps were cached, and a ratio of at least %g is wanted", hits, steps, r.Inputs.FailBelow)
}
