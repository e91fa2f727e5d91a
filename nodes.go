package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/scope"
)

// split gives each of several builders a step of its own: its platforms, its scope and
// its caches, so that none overwrites another's.
func (s *step) split(facts scope.Facts) []syntax.Problem {
	var found []syntax.Problem
	var written []string
	for _, part := range s.inputs.PerNode() {
		node := *s
		node.inputs = part
		for _, p := range node.derive(facts) {
			if !slices.Contains(found, p) {
				found = append(found, p)
			}
		}
		if node.plan.Write != "" {
			written = append(written, string(node.plan.Write))
		}
		s.nodes = append(s.nodes, &node)
	}
	s.plan.Write = scope.Name(strings.Join(written, ",")) // for people: nothing is written under it
	return found
}

// parts are the steps of several builders, or this one.
func (s *step) parts() []*step {
	if len(s.nodes) > 0 {
		return s.nodes
	}
	return []*step{s}
}

// builds are what one of several builders builds: "linux/amd64", "linux/amd64,linux/386".
func (s *step) builds() string { return strings.Join(s.inputs.Platforms, ",") }

// solveNodes builds on all builders at once, and joins what they have pushed by digest.
// Where one fails the others are stopped.
func (s *step) solveNodes(ctx context.Context) (solve.Result, string, error) {
	results, addresses, names := make([]solve.Result, len(s.nodes)), make([]string, len(s.nodes)), make([]string, len(s.nodes))
	eg, building := errgroup.WithContext(ctx)
	for i, node := range s.nodes {
		names[i] = node.builds()
		eg.Go(func() (err error) {
			lines := &report.Prefix{To: s.stderr, Each: names[i] + " | "}
			node.progress, node.inputs.Progress = s.redactor.Log(s.plan.Facts.CI, lines), plainUnlessQuiet(s.inputs.Progress)
			results[i], addresses[i], err = node.solve(building)
			if err != nil {
				err = fmt.Errorf("%s: %w", names[i], err)
			}
			return errors.Join(err, node.progress.Close(), lines.Close())
		})
	}
	err := eg.Wait()
	result := solve.Combined(names, results)
	if err == nil {
		err = s.join(ctx, &result, results)
	}
	return result, strings.Join(addresses, ", "), err
}

// plainUnlessQuiet: builds beside each other cannot share a terminal's lines.
func plainUnlessQuiet(progress string) string {
	if progress == "quiet" {
		return progress
	}
	return "plain"
}

// join pushes the index of all parts, and makes it the result's image.
func (s *step) join(ctx context.Context, result *solve.Result, parts []solve.Result) error {
	began := time.Now()
	j := solve.Join{Names: s.inputs.Pushed(), Annotations: s.inputs.IndexAnnotations(), Keychain: s.registries}
	for _, o := range s.inputs.Outputs {
		j.Docker = j.Docker || syntax.IsFalse(o.Attrs["oci-mediatypes"])
		j.Insecure = j.Insecure || syntax.IsTrue(o.Attrs["registry.insecure"])
	}
	for _, part := range parts {
		j.Parts = append(j.Parts, part.Digest)
	}
	index, err := j.Push(ctx)
	if err != nil {
		return err
	}
	result.Becomes(index, j.Names)
	result.Phases = append(result.Phases, solve.Phase{Name: "join", Seconds: time.Since(began).Seconds()})
	return nil
}
