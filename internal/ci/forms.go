package ci

import (
	"cmp"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// Section is a part of a job's log. It is collapsed on CIs that support that, and invisible on
// others. Its title is one line.
type Section struct {
	Title string
	Began time.Time
}

// Begin are the lines in the log that begin the section; "": none.
func (d Dialect) Begin(s Section) string {
	if d.log.begin == nil {
		return ""
	}
	return d.log.begin(s)
}

// End are the lines in the log that end the section; "": none. A section that failed is expanded
// on CIs that support that.
func (d Dialect) End(s Section, ended time.Time, failed bool) string {
	if d.log.end == nil {
		return ""
	}
	return d.log.end(s, ended, failed)
}

// Note is a message, mostly about a place in a file. All its texts are printable lines without newlines.
type Note struct {
	Level         string // "warning" or "error"
	File          string // relative to the checkout; "": no file is at fault
	Line, EndLine int    // from 1; 0 where none is known
	Title         string
	Message       []string // lines
}

// Notes are the commands in the log that show notes at their lines, "" where the CI has none.
func (d Dialect) Notes(notes []Note) string {
	if d.log.note == nil {
		return ""
	}
	var b strings.Builder
	for _, n := range notes {
		b.WriteString(d.log.note(n))
	}
	return b.String()
}

// Masks are the commands in the log with which the runner hides secrets, line by line, in the log of
// the whole job. They contain the secrets, so they are "" unless the runner removes them from the log.
func (d Dialect) Masks(lines []string) string {
	if d.log.mask == nil {
		return ""
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(d.log.mask(line))
	}
	return b.String()
}

// Hide makes the runner hide secrets, line by line, in the log of the whole job, on CIs that do this
// in another way than with [Dialect.Masks].
func (d Dialect) Hide(ctx context.Context, lines []string) error {
	if d.hide == nil || len(lines) == 0 {
		return nil
	}
	return d.hide(ctx, d.host, lines)
}

// Output is a value that a step passes to later steps.
type Output struct{ Name, Value string }

// Variable is the name of the variable for the output in later steps: "WARMLAYER_CACHE_HITS".
func (o Output) Variable() string {
	return "WARMLAYER_" + strings.ToUpper(strings.ReplaceAll(o.Name, "-", "_"))
}

// Page is a report in the formats that CIs show or pass on, with all secrets hidden.
type Page struct {
	Markdown string // the summary
	Summary  bool   // show the summary
	File     string // absolute path of the file with the summary; "": none
	Outputs  []Output
	Key      string // cache key of the image, which separates it from others of the same job; "": none
	Level    string // "success", "warning" or "error"
}

// Publish shows a report, and passes its outputs to later steps: with commands in the log and, on
// every CI, in the files that GITHUB_OUTPUT and GITHUB_STEP_SUMMARY name. When one of these fails
// the others are still written; the errors are joined.
func (d Dialect) Publish(log io.Writer, p Page) error {
	errs := []error{appendTo(d.host.getenv("GITHUB_OUTPUT"), githubOutputs(p.Outputs))}
	if p.Summary {
		errs = append(errs, appendTo(d.host.getenv("GITHUB_STEP_SUMMARY"), p.Markdown))
	}
	if d.publish != nil {
		errs = append(errs, d.publish(d.host, log, p))
	}
	return errors.Join(errs...)
}

// Show shows the summary where no later step depends on it, and waits until it is there.
func (d Dialect) Show(ctx context.Context, p Page) error {
	if d.show == nil || !p.Summary {
		return nil
	}
	return d.show(ctx, d.host, p)
}

// ReportDir is the default directory of the report's files, relative to the working directory. It
// is below RUNNER_TEMP, GitHub's variable, on every CI that sets it. In a user's shell it is "": no
// files are written.
func (d Dialect) ReportDir() string {
	switch temp := d.host.getenv("RUNNER_TEMP"); {
	case temp != "":
		return filepath.Join(temp, "warmlayer")
	case d.shell || d.Name == "":
		return ""
	}
	return ".warmlayer"
}

// Job identifies one run of a job, and its runner, which runs one job at a time; "" when it may run
// several. Both are "" unless the CI runs a command after the last step of the job, which can remove
// what the steps have shared. Source is the machine's directory that has a path of this container,
// "" when none has it: jobs that run at the same time may differ in nothing else.
func (d Dialect) Job(source func(path string) string) (id, runner string) {
	if d.job == nil {
		return "", ""
	}
	return d.job(d.host, source)
}

// Credential is a login for a registry. Host is the host in the names of images, with a port if
// there is one.
type Credential struct{ Host, User, Password string }

// Credentials are those that the CI gives to a job, and those of the input github-token ("": none):
// a token for github.com is valid for ghcr.io too.
func (d Dialect) Credentials(githubToken string) []Credential {
	var all []Credential
	if d.credentials != nil {
		all = d.credentials(d.host)
	}
	if d.server() == githubServer {
		// The registry checks only the token, and accepts any user.
		all = append(all, Credential{"ghcr.io", cmp.Or(d.host.getenv("GITHUB_ACTOR"), "x-access-token"), githubToken})
	}
	var complete []Credential
	for _, c := range all {
		if c.Host != "" && c.User != "" && c.Password != "" {
			complete = append(complete, c)
		}
	}
	return complete
}

// Repository is the repository that a job builds, with what the defaults of inputs need.
type Repository struct {
	// Server is the URL of the GitHub server that a token is for, without a slash at its end.
	Server string
	// Actions tells whether the inputs have the defaults of docker/build-push-action.
	Actions bool
	// Context is the Git URL of the commit that runs, with its ref: the default context without a
	// checkout. It is "" where the CI names none.
	Context string
	// Public tells whether the repository is public. It is false where that is unknown.
	Public bool
}

// Repository is the repository of the job.
func (d Dialect) Repository() Repository {
	var r Repository
	if d.repository != nil {
		r = d.repository(d.host)
	}
	r.Server = d.server()
	return r
}
