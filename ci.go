package main

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/warmlayer/warmlayer/internal/report"
)

// mask has the CI hide the secrets in the log of the whole job, where it can, and returns
// a warning where it could not. This step's own words are redacted without it.
func (s *step) mask(ctx context.Context) []string {
	secrets := append(s.inputs.Sensitive(), s.registries.Secrets()...)
	// Not through the redactor: the runner needs the secrets, and takes these lines out.
	fmt.Fprint(s.stderr, report.Masks(s.plan.Facts.CI, secrets))
	agent, ok := s.agent()
	if !ok {
		return nil
	}
	if err := agent.Redact(ctx, secrets); err != nil {
		return []string{"later steps' logs may show the secrets: " + err.Error()}
	}
	return nil
}

// places are where this CI wants the report.
func (s *step) places() report.Places {
	p := report.Places{Dir: s.reportDir(), GitHubOutput: s.env.get("GITHUB_OUTPUT")}
	if s.inputs.Summary {
		p.StepSummary = s.env.get("GITHUB_STEP_SUMMARY")
	}
	if s.plan.Facts.CI == "azure" {
		p.Azure = s.stderr
	}
	return p
}

// annotate points the CI at the lines of the Dockerfile that the report is about.
func (s *step) annotate(r report.Report) error {
	// Standard output may be an archive.
	return r.Annotations(s.stderr, s.inputs.Annotate, s.redactor.String)
}

// showOnBuildkite puts the report on the page of a build there. A cancelled step has no
// time for it, and no build fails for it.
func (s *step) showOnBuildkite(ctx context.Context, r report.Report) {
	agent, ok := s.agent()
	if !ok || !s.inputs.Summary || ctx.Err() != nil {
		return
	}
	if err := agent.Annotate(ctx, r, s.env.get("BUILDKITE_JOB_ID"), s.redactor.String); err != nil {
		fmt.Fprintln(s.stderr, s.redactor.String("report: "+err.Error()))
	}
}

// agent is Buildkite's, where a job's environment and PATH have it.
func (s *step) agent() (report.Agent, bool) {
	if s.plan.Facts.CI != "buildkite" || s.env.get("BUILDKITE_AGENT_ACCESS_TOKEN") == "" {
		return report.Agent{}, false
	}
	path, err := exec.LookPath("buildkite-agent")
	return report.Agent{Path: path, Environ: s.env}, err == nil
}
