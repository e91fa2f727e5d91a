package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Places are where a report is published. The zero value is nowhere.
type Places struct {
	// Dir gets warmlayer.json, warmlayer.md and warmlayer.env, and is made if need be.
	Dir string
	// GitHubOutput and StepSummary are GitHub's files of those names, to append to.
	GitHubOutput, StepSummary string
	// Azure is the log that an Azure agent reads, nil elsewhere.
	Azure io.Writer
}

// Publish writes the report to every place, with all that redact hides hidden. A file in
// Dir is the old one or the new one, whole, whenever it is read. A place that fails does
// not keep the others from being written; the errors come joined.
func (r Report) Publish(p Places, redact func(string) string) error {
	r = r.redacted(redact)
	outputs, summary := r.Outputs(), []byte(r.Markdown())
	var github, dotenv bytes.Buffer
	document, err := r.JSON()
	if err := errors.Join(err, GitHubOutput(&github, outputs), Dotenv(&dotenv, outputs)); err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	var errs []error
	if p.Dir != "" {
		errs = append(errs,
			replace(p.Dir, "warmlayer.json", document),
			replace(p.Dir, "warmlayer.md", summary),
			replace(p.Dir, "warmlayer.env", dotenv.Bytes()))
	}
	if p.GitHubOutput != "" {
		errs = append(errs, appendTo(p.GitHubOutput, github.Bytes()))
	}
	if p.StepSummary != "" {
		errs = append(errs, appendTo(p.StepSummary, summary))
	}
	if p.Azure != nil {
		errs = append(errs, publishAzure(p.Azure, p.Dir, outputs))
	}
	return errors.Join(errs...)
}

// replace puts a file into its place at once: later steps, and other processes, may
// read it at any time.
func replace(dir, name string, content []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), os.Remove(f.Name()))
	}
	return nil
}

// appendTo adds to a file that other steps, or the runner, may have begun.
func appendTo(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}
