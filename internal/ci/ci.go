// Package ci has the table of the CIs that the program knows: what each tells about a build,
// and how it is told about one.
//
//	dialect, facts := ci.Detect(ci.Machine{Environ: os.Environ(), ReadFile: os.ReadFile, Terminal: true})
//	section := ci.Section{Title: "Build", Began: time.Now()}
//	fmt.Fprint(os.Stderr, dialect.Begin(section)) // ::group::Build on GitHub, nothing on Jenkins
//
// A CI is one value of [Dialect] in a file of its own, one line in the table, and its cases in
// testdata/<name>: captured environments with the plans that follow. No other room compares a
// CI's name.
package ci

import (
	"cmp"
	"context"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/warmlayer/warmlayer/scope"
)

// Dialect is all that the program knows of one CI. Every entry has a name, here and facts; any
// other function is nil where the CI has no such feature. The zero value is for a machine without
// a CI and without a checkout.
type Dialect struct {
	Name string // in plans and reports: "github"; "git" for a checkout outside a CI; "" outside both

	here  func(host) bool        // recognises the CI
	facts func(host) scope.Facts // what the CI says about the build, without the CI's name
	shell bool                   // a user's machine and no CI: without report-dir no file is written

	log         log
	publish     func(h host, log io.Writer, p Page) error               // hands a report and outputs to later steps
	show        func(ctx context.Context, h host, p Page) error         // shows a report where no later step depends on it
	hide        func(ctx context.Context, h host, lines []string) error // makes the runner hide secrets, by another way than its log
	credentials func(host) []Credential                                 // registries' credentials that every job gets
	repository  func(host) Repository                                   // see [Dialect.Repository]; the server is filled in
	remote      func(host) string                                       // see [Dialect.Remote]
	run         func(host) string                                       // see [Dialect.Run]
	pulls       func(h host, githubToken string) (Pulls, string)        // see [Dialect.Pulls]
	job         func(host, func(string) string) (id, runner string)     // see [Dialect.Job]

	host host // the machine that Detect has looked at
}

// log are the commands that a CI knows in a job's log. Each function returns whole lines.
type log struct {
	begin func(Section) string
	end   func(s Section, ended time.Time, failed bool) string
	mask  func(line string) string // holds the secret: for runners that take it out of the log
	note  func(Note) string
}

// dialects are the CIs that are known, in the order in which they are looked for. Some set the
// variables of others too, so order matters.
var dialects = []Dialect{
	forgejo,
	gitea,
	github,
	woodpecker,
	drone,
	gitlab,
	buildkite,
	circleci,
	azure,
	bitbucket,
	jenkins,
	travis,
	appveyor,
	unknown,
	git,
}

// Names are the names of all dialects.
func Names() []string {
	var names []string
	for _, d := range dialects {
		names = append(names, d.Name)
	}
	return names
}

// Machine is what [Detect] looks at. Its zero value is a machine without variables and files.
type Machine struct {
	Environ  []string                          // as os.Environ gives it
	ReadFile func(path string) ([]byte, error) // paths are absolute or relative to the working directory; nil: there are no files
	Terminal bool                              // the program's standard input or standard error is a terminal
}

// Detect finds the CI that runs this program by its environment, and reads the facts from there
// and from files; without a CI from the git checkout around the working directory. It never fails:
// what cannot be read is unknown, and a build that may be of a fork's code is not trusted. Outside
// a CI a person at a terminal is trusted, and a process without one, or in a container, is not: many
// CIs set no variable, or hand none on to a container.
func Detect(m Machine) (Dialect, scope.Facts) {
	if m.ReadFile == nil {
		m.ReadFile = func(string) ([]byte, error) { return nil, fs.ErrNotExist }
	}
	h := host{environ: m.Environ, readFile: m.ReadFile, terminal: m.Terminal, variables: map[string]string{}}
	for _, variable := range m.Environ { // the last of several assignments holds
		name, value, _ := strings.Cut(variable, "=")
		h.variables[name] = value
	}
	for _, d := range dialects {
		if !d.here(h) {
			continue
		}
		d.host = h
		f := d.facts(h)
		f.CI = d.Name
		if f.Trusted && f.PR == 0 && f.Branch != "" && f.Branch == f.Default && !d.shell {
			f.Protected = true
		}
		return d, f
	}
	f := scope.Facts{Unreadable: unreadable(h)}
	judgeShell(&f, h)
	return Dialect{host: h}, f
}

// Around is what [Detect] found, for a build whose context is in the checkout around an absolute
// directory without symbolic links: outside a CI that checkout tells the branch, wherever the program
// is started. The working directory's facts stay where the checkout names neither a branch nor a tag,
// as in a submodule, where dir is "", and in a CI, which says itself what is built.
func (d Dialect) Around(dir string, f scope.Facts) (Dialect, scope.Facts) {
	if dir == "" || d.Name != "" && d.Name != git.Name {
		return d, f
	}
	h := d.host
	h.dir = dir
	if !isCheckout(h) {
		f.Unreadable = cmp.Or(unreadable(h), f.Unreadable)
		return d, f
	}
	there := gitFacts(h)
	if there.Branch == "" && there.Tag == "" && f.Branch+f.Tag != "" {
		return d, f
	}
	found := git
	found.host, there.CI = h, git.Name
	return found, there
}

// host is the machine as [Detect] sees it.
type host struct {
	environ   []string
	variables map[string]string
	readFile  func(string) ([]byte, error)
	terminal  bool
	dir       string // around which a checkout is looked for; "": the working directory
}

func (h host) getenv(name string) string { return h.variables[name] }

// knows tells whether one of the variables is set. It finds pull requests also in a container that
// did not get the variable with their number.
func (h host) knows(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return h.getenv(name) != "" })
}

// set recognises a CI by variables: one of them is set, and not to a word for no.
func set(names ...string) func(host) bool {
	return func(h host) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			return !slices.Contains([]string{"", "0", "false", "no", "off"}, strings.ToLower(h.getenv(name)))
		})
	}
}
