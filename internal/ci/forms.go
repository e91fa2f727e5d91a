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

// Section is a part of a job's log that is folded away where the CI can fold; elsewhere it
// shows nothing of itself. Its title is one line.
type Section struct {
	Title string
	Began time.Time
}

// Begin is what the log says before the section, in whole lines; "" for nothing.
func (d Dialect) Begin(s Section) string {
	if d.log.begin == nil {
		return ""
	}
	return d.log.begin(s)
}

// End is what the log says after the section, in whole lines; "" for nothing. A section that
// failed is opened where that can be said.
func (d Dialect) End(s Section, ended time.Time, failed bool) string {
	if d.log.end == nil {
		return ""
	}
	return d.log.end(s, ended, failed)
}

// Note is a message, mostly about a place in a file. All text in it is printable, in lines without ends.
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

// Masks are the commands that make the runner hide secrets, by lines, in the log of the whole
// job. They hold the secrets themselves, and are "" where no runner takes them out of the log.
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

// Hide makes the runner hide secrets, by lines, in the log of the whole job, where that is not
// done by [Dialect.Masks].
func (d Dialect) Hide(ctx context.Context, lines []string) error {
	if d.hide == nil || len(lines) == 0 {
		return nil
	}
	return d.hide(ctx, d.host, lines)
}

// Obeys tells whether the runner runs every command in the log, also one that a build has
// written. Then the build's text has to go through [Disarmed].
func (d Dialect) Obeys() bool { return d.log.obeyed }

// Output is a value that a step hands to later steps.
type Output struct{ Name, Value string }

// Variable is the name of the variable for the output in later steps: "WARMLAYER_CACHE_HITS".
func (o Output) Variable() string {
	return "WARMLAYER_" + strings.ToUpper(strings.ReplaceAll(o.Name, "-", "_"))
}

// Page is a report in the forms that CIs show and hand on, with all secrets hidden.
type Page struct {
	Markdown string // the summary
	Summary  bool   // the summary is to be shown
	File     string // absolute path of the file with the summary; "" for none
	Outputs  []Output
	Key      string // of the image, to tell it from others of the same job; "" for none
	Level    string // "success", "warning" or "error"
}

// Publish shows a report, and hands its outputs to later steps: by commands in the log, and, on
// every CI, in the files that GITHUB_OUTPUT and GITHUB_STEP_SUMMARY name. When one place fails
// the others are written all the same; the errors come joined.
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

// ReportDir is the directory of the report's files where the user names none, relative to the
// working directory. It is below RUNNER_TEMP, GitHub's variable, on every CI that sets it, and ""
// at a user's shell, for no files.
func (d Dialect) ReportDir() string {
	switch temp := d.host.getenv("RUNNER_TEMP"); {
	case temp != "":
		return filepath.Join(temp, "warmlayer")
	case d.shell || d.Name == "":
		return ""
	}
	return ".warmlayer"
}

// Job identifies one run of a job, and who runs it, where the CI runs something after the
// job's last step that can remove what its steps have shared; "" elsewhere.
func (d Dialect) Job() (id, runner string) {
	if d.job == nil {
		return "", ""
	}
	return d.job(d.host)
}

// Credential is a user of a registry. Host is as images name it, with a port if there is one.
type Credential struct{ Host, User, Password string }

// Credentials are those that the CI hands to a job, and those of the input github-token, which
// is "" for none: a token for github.com is one for ghcr.io too.
func (d Dialect) Credentials(githubToken string) []Credential {
	var all []Credential
	if d.credentials != nil {
		all = d.credentials(d.host)
	}
	if d.server() == githubServer {
		// The registry checks the token alone, and any user will do.
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

// Repository is the one that a job builds, as the defaults of inputs need it.
type Repository struct {
	// Server is the URL of the GitHub server that a token is for, without a slash at its end.
	Server string
	// Actions: the inputs have the defaults that they have in docker/build-push-action.
	Actions bool
	// Context is the Git URL of the commit that runs, with its ref: the default where nothing is
	// checked out. "" where the CI names none.
	Context string
	// Public tells whether the repository is public. It is false where that is unknown.
	Public bool
}

// Repository is the job's.
func (d Dialect) Repository() Repository {
	var r Repository
	if d.repository != nil {
		r = d.repository(d.host)
	}
	r.Server = d.server()
	return r
}
