package step

import (
	"context"

	"github.com/warmlayer/warmlayer/internal/report"
)

// mask asks the CI to hide the secrets in the log of the whole job, and returns a warning when
// that fails. Warmlayer's own output is redacted in any case.
func (r Run) mask(ctx context.Context) []string {
	lines := report.SecretLines(append(r.Inputs.Sensitive(), r.registries.Secrets()...))
	// These lines bypass the redactor: the runner reads the secrets in them and removes the lines
	// from the log.
	_ = r.command(r.host.CI.Masks(lines))
	if err := r.host.CI.Hide(ctx, lines); err != nil {
		return []string{"later steps' logs may show the secrets: " + err.Error()}
	}
	return nil
}

// places are where the report is published.
func (r Run) places() report.Places {
	return report.Places{Dir: r.reportDir(), CI: r.host.CI, Log: r.host.Stderr, Summary: r.Inputs.Summary}
}

// annotate prints the CI's commands for annotations at lines of the Dockerfile.
func (r Run) annotate(rep report.Report) error {
	return r.command(r.host.CI.Notes(rep.Notes(r.Inputs.Annotate, r.host.Redactor.String)))
}

// show puts the report on the CI's page for the build. A cancelled run leaves that out: the CI
// kills its process soon. An error is printed, and leaves the exit code as it is.
func (r Run) show(ctx context.Context, rep report.Report) {
	if ctx.Err() != nil {
		return
	}
	if err := rep.Show(ctx, r.places(), r.host.Redactor.String); err != nil {
		r.say("report: " + err.Error())
	}
}
