package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/solve"
)

// solve runs every build on its builder. Several run concurrently, and the images that they push
// by digest are joined into one.
func (r Run) solve(ctx context.Context) outcome {
	if r.bakes() {
		return r.bake(ctx)
	}
	if len(r.Builds) == 1 {
		display := r.host.Redactor.Display(r.host.Stderr)
		made := r.on(ctx, r.Builds[0], display)
		if made.err == nil {
			made.err = r.leavePart(ctx, made.result)
		}
		made.err = errors.Join(made.err, display.Close())
		return made
	}
	names, parts, err := r.solveAll(ctx, func(ctx context.Context, b Build, display io.Writer) outcome { return r.on(ctx, b, display) })
	all := allOf(parts, err)
	all.result = combined(names, results(parts))
	if err == nil {
		all.err = r.join(ctx, &all.result, parts)
	}
	return all
}

// allOf is the outcome of several builds, without their results.
func allOf(parts []outcome, err error) outcome {
	all := outcome{err: err}
	var addresses []string
	for _, p := range parts {
		if p.address != "" {
			addresses = addOnce(addresses, p.address)
		}
		all.inEngine = all.inEngine || p.inEngine
		all.state, all.kept = cmp.Or(all.state, p.state), all.kept || p.kept
		all.networks = addOnce(all.networks, p.networks...)
		all.warnings = addOnce(all.warnings, p.warnings...)
	}
	all.address = strings.Join(addresses, ", ")
	return all
}

// results are the results of several outcomes, in their order.
func results(parts []outcome) []solve.Result {
	var all []solve.Result
	for _, p := range parts {
		all = append(all, p.result)
	}
	return all
}

// solveAll runs all builds concurrently, and returns their names and outcomes, in the order of
// Builds. When one fails the others are cancelled.
func (r Run) solveAll(ctx context.Context, on func(context.Context, Build, io.Writer) outcome) (names []string, parts []outcome, err error) {
	names, parts = make([]string, len(r.Builds)), make([]outcome, len(r.Builds))
	eg, building := errgroup.WithContext(ctx)
	if r.asks() { // what a frontend finds in one Dockerfile is no reason to ask nothing about the others
		building = ctx
	}
	for i, b := range r.Builds {
		names[i] = b.name()
		b.Inputs.Progress = plainUnlessQuiet(b.Inputs.Progress)
		eg.Go(func() error {
			defer crash.Catch()
			lines := &report.Prefix{To: r.host.Stderr, Each: names[i] + " | "}
			display := r.host.Redactor.Progress(lines)
			parts[i] = on(building, b, display)
			err := parts[i].err
			if err != nil {
				err = fmt.Errorf("%s: %w", names[i], err)
			}
			return errors.Join(err, display.Close(), lines.Close())
		})
	}
	err = eg.Wait()
	return names, parts, err
}

// plainUnlessQuiet is the progress mode of builds that share one log.
func plainUnlessQuiet(progress string) string {
	if progress == "quiet" {
		return progress
	}
	return "plain"
}

// join pushes an index of the images of all parts, and sets it as the image of the result.
func (r Run) join(ctx context.Context, result *solve.Result, parts []outcome) error {
	j := r.joined()
	for _, part := range parts {
		j.Parts = append(j.Parts, part.result.Digest)
	}
	return r.joinParts(ctx, j, result)
}
