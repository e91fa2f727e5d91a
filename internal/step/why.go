package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/scope"
)

// Question is what [Run.Why] is asked.
type Question struct {
	Scope string // to compare with; "": those that the build would read
	JSON  bool
}

// Why prints which steps would not be cached now, and why, and returns the exit code. It starts a builder for the
// frontend, reads the scopes, and builds and writes nothing.
func (r Run) Why(ctx context.Context, q Question) int {
	r.why, r.Inputs.Call = true, ""
	r.Builds = slices.Clone(r.Builds)
	for i := range r.Builds {
		b := &r.Builds[i]
		b.Inputs.Call, b.Inputs.Progress, b.Inputs.Outputs = "", "quiet", nil
		b.Plan.Write = ""
		if q.Scope != "" {
			b.Plan.Read = []scope.Source{{Name: scope.Name(q.Scope), Why: "as asked"}}
		}
	}
	_ = r.mask(ctx)
	made := r.solve(ctx)
	rep := report.Report{Version: r.host.Version, Plan: r.Plan(), Builder: made.address, Result: made.result, Err: made.err, Warnings: made.warnings}
	var err error
	if made.err != nil {
		out := r.log()
		err = errors.Join(rep.Console(out), out.Close())
	} else {
		err = r.answerWhy(rep, q)
	}
	switch {
	case ctx.Err() != nil:
		return ExitCancelled
	case cmp.Or(err, made.err) != nil:
		return ExitBuild
	}
	return ExitOK
}

// answerWhy writes the reasons to standard output.
func (r Run) answerWhy(rep report.Report, q Question) error {
	out := r.host.Redactor.Log(r.host.Stdout)
	text, err := rep.Why(q.JSON, r.host.Redactor.String)
	if err == nil {
		_, err = io.WriteString(out, text)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		r.say(fmt.Sprintf("why: %v", err))
	}
	return err
}
