package step

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/warmlayer/warmlayer/internal/report"
)

// mask has the CI hide the secrets in the log of the whole job, where it can, and returns
// a warning where it could not. This step's own words are redacted without it.
func (r Run) mask(ctx context.Context) []string {
	secrets := append(r.Inputs.Sensitive(), r.registries.Secrets()...)
	// Not through the redactor: the runner needs the secrets, and takes these lines out.
	fmt.Fprint(r.host.Stderr, report.Masks(r.Facts.CI, secrets))
	agent, ok := r.agent()
	if !ok {
		return nil
	}
	if err := agent.Redact(ctx, secrets); err != nil {
		return []string{"later steps' logs may show the secrets: " + err.Error()}
	}
	return nil
}

// places are where this CI wants the report.
func (r Run) places() report.Places {
	p := report.Places{Dir: r.reportDir(), GitHubOutput: r.host.Environ.Get("GITHUB_OUTPUT")}
	if r.Inputs.Summary {
		p.StepSummary = r.host.Environ.Get("GITHUB_STEP_SUMMARY")
	}
	if r.Facts.CI == "azure" {
		p.Azure = r.host.Stderr
	}
	return p
}

// annotate points the CI at the lines of the Dockerfile that the report is about.
func (r Run) annotate(told report.Report) error {
	// Standard output may be an archive.
	return told.Annotations(r.host.Stderr, r.Inputs.Annotate, r.host.Redactor.String)
}

// showOnBuildkite puts the report on the page of a build there. A cancelled step has no
// time for it, and no build fails for it.
func (r Run) showOnBuildkite(ctx context.Context, told report.Report) {
	agent, ok := r.agent()
	if !ok || !r.Inputs.Summary || ctx.Err() != nil {
		return
	}
	if err := agent.Annotate(ctx, told, r.host.Environ.Get("BUILDKITE_JOB_ID"), r.host.Redactor.String); err != nil {
		fmt.Fprintln(r.host.Stderr, r.host.Redactor.String("report: "+err.Error()))
	}
}

// agent is Buildkite's, where a job's environment and PATH have it.
func (r Run) agent() (report.Agent, bool) {
	if r.Facts.CI != "buildkite" || r.host.Environ.Get("BUILDKITE_AGENT_ACCESS_TOKEN") == "" {
		return report.Agent{}, false
	}
	path, err := exec.LookPath("buildkite-agent")
	return report.Agent{Path: path, Environ: r.host.Environ}, err == nil
}
