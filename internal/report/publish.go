package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moby/sys/atomicwriter"

	"github.com/warmlayer/warmlayer/internal/ci"
)

// Places are where a report is published. The zero value is nowhere.
type Places struct {
	Dir     string     // gets warmlayer.json, warmlayer.md and warmlayer.env, and is made if need be; "" for none
	CI      ci.Dialect // shows the report, and hands its outputs to later steps
	Log     io.Writer  // of the job, for commands to the CI
	Summary bool       // the CI is to show the summary
}

// Publish writes the report to every place, with all that redact hides hidden. A file in
// Dir is the old one or the new one, whole, whenever it is read. A place that fails does
// not keep the others from being written; the errors come joined.
func (r Report) Publish(p Places, redact func(string) string) error {
	r = r.redacted(redact)
	page := r.page(p)
	var dotenv bytes.Buffer
	document, err := r.JSON()
	if err := errors.Join(err, Dotenv(&dotenv, page.Outputs)); err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	var errs []error
	if p.Dir != "" {
		abs, err := filepath.Abs(p.Dir)
		page.File = filepath.Join(abs, "warmlayer.md")
		errs = append(errs, err,
			replace(p.Dir, "warmlayer.json", document),
			replace(p.Dir, "warmlayer.md", []byte(page.Markdown)),
			replace(p.Dir, "warmlayer.env", dotenv.Bytes()))
	}
	return errors.Join(append(errs, p.CI.Publish(p.Log, page))...)
}

// Show shows the report where the CI has a page for it that no later step depends on, with
// all that redact hides hidden.
func (r Report) Show(ctx context.Context, p Places, redact func(string) string) error {
	return p.CI.Show(ctx, r.redacted(redact).page(p))
}

// page is the report for the CI.
func (r Report) page(p Places) ci.Page {
	page := ci.Page{Markdown: r.Markdown(), Summary: p.Summary, Outputs: r.Outputs(), Key: r.Plan.Key, Level: "success"}
	switch {
	case r.Err != nil:
		page.Level = "error"
	case len(r.warnings()) > 0:
		page.Level = "warning"
	}
	return page
}

// replace puts a file into its place at once: later steps, and other processes, may
// read it at any time.
func replace(dir, name string, content []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := atomicwriter.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
