package step

import (
	"context"
	"fmt"

	"github.com/warmlayer/warmlayer/internal/report"
)

// mask has the CI hide the secrets in the log of the whole job, where it can, and returns
// a warning where it could not. The program's own output is redacted without it.
func (r Run) mask(ctx context.Context) []string {
	lines := report.SecretLines(append(r.Inputs.Sensitive(), r.registries.Secrets()...))
	// Not through the redactor: the runner needs the secrets, and takes these lines out.
	fmt.Fprint(r.host.Stderr, r.host.CI.Masks(lines))
	if err := r.host.CI.Hide(ctx, lines); err != nil {
		return []string{"later steps' logs may show the secrets: " + err.Error()}
	}
	return nil
}

// places are where the report is published.
func (r Run) places() report.Places {
	return report.Places{Dir: r.reportDir(), CI: r.host.CI, Log: r.host.Stderr, Summary: r.Inputs.Summary}
}

// annotate points the CI at the lines of the Dockerfile that the report is about.
func (r Run) annotate(told report.Report) error {
	// Standard output may be an archive.
	_, err := fmt.Fprint(r.host.Stderr, r.host.CI.Notes(told.Notes(r.Inputs.Annotate, r.host.Redactor.String)))
	return err
}

// show puts the report on the page that the CI has for it. A cancelled run has no time for
// it, and no build fails for it.
func (r Run) show(ctx context.Context, told report.Report) {
	if ctx.Err() != nil {
		return
	}
	if err := told.Show(ctx, r.places(), r.host.Redactor.String); err != nil {
		fmt.Fprintln(r.host.Stderr, r.host.Redactor.String("report: "+err.Error()))
	}
}
