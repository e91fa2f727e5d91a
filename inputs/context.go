package inputs

import (
	"cmp"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/util/gitutil"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// ContextKind is the kind of a build context.
type ContextKind int

// The kinds; the zero one is Directory.
const (
	Directory ContextKind = iota // on this machine
	Git                          // a repository, which BuildKit fetches
	HTTP                         // a file or an archive, which BuildKit fetches
	Image                        // docker-image://…, which BuildKit pulls
	Layout                       // oci-layout://…, an image in a directory on this machine
)

// Context is a build context: the build's own, or a named one.
type Context struct {
	Name   string // of a named context, in the form in which the frontend looks for it; "": the build's own
	Kind   ContextKind
	Source string    // as given: a path, a URL, docker-image://… or oci-layout://…
	Dir    string    // of a Directory: its absolute path
	Layout OCILayout // of a Layout

	// Subdir is slash-separated: of a Directory and of a Git context the path from the root of its
	// own repository; "": the root itself, a Directory outside of every repository, and every other
	// kind.
	Subdir   string
	HasQuery bool // the URL has a query, which old frontends ignore

	host string // of a Git repository that is read over HTTP, without credentials in the URL; "": any other
	ssh  bool   // a Git repository that is read over SSH
}

// Remote tells whether BuildKit fetches the context.
func (c Context) Remote() bool { return c.Kind == Git || c.Kind == HTTP }

var httpURL = regexp.MustCompile(`^https?://`)

// isRemote tells a URL or a Git reference from a path (frontend/dockerui/context.go).
func isRemote(source string) bool {
	_, isGit, _ := dfgitutil.ParseGitRef(source)
	return isGit || httpURL.MatchString(source)
}

var unknownQuery = &syntax.Problem{
	What: "BuildKit does not understand the URL's query",
	Hint: "known are ref, subdir, checksum, submodules and keep-git-dir",
}

// remoteContext reads a URL or a Git reference.
func remoteContext(source string) (Context, *syntax.Problem) {
	c := Context{Kind: HTTP, Source: source}
	if u, err := gitutil.ParseURL(source); err == nil {
		c.HasQuery, c.ssh = len(u.Query) > 0, u.Scheme == gitutil.SSHProtocol
	}
	git, isGit, err := dfgitutil.ParseGitRef(source)
	switch {
	case isGit && err != nil:
		return c, unknownQuery
	case isGit:
		c.Kind, c.Subdir, c.host = Git, git.SubDir, httpHost(git)
	}
	return c, nil
}

// httpHost is the host that a Git repository is read from over HTTP. It is "" for one that
// is read otherwise, or with credentials in the URL.
func httpHost(git *dfgitutil.GitRef) string {
	remote := git.Remote
	if git.IndistinguishableFromLocal {
		remote = "https://" + remote
	}
	if u, err := url.Parse(remote); err == nil && httpURL.MatchString(remote) && u.User == nil {
		return u.Host
	}
	return ""
}

// directory is a context on this machine.
func (p *parser) directory(name string) Context {
	return Context{Source: name, Dir: p.absolute(name), Subdir: place(p.absolute(name))}
}

// context reads the build's own context. As in buildx's build/opt.go, a directory comes before
// a URL of the same spelling. It reports whether the place to look for a Dockerfile is known.
func (p *parser) context() (Context, bool) {
	source, ok := p.contextSource()
	remote := isRemote(source)
	if ok && !remote {
		source, ok = p.contained("context", 0, source)
	}
	if !ok {
		return Context{}, false
	}
	info, err := os.Stat(locate(p.dir, source))
	switch {
	case err == nil && info.IsDir():
		return p.directory(source), true
	case remote:
		c, problem := remoteContext(source)
		if problem != nil {
			p.report("context", 0, problem.What, problem.Hint)
		}
		return c, true
	}
	p.noContext(source, err)
	return Context{Source: source}, true
}

// contextSource is the context as given or, on GitHub where nothing is checked out, the
// repository there.
func (p *parser) contextSource() (string, bool) {
	if !p.settings.Given("context") && p.noCheckout() {
		return cmp.Or(p.repository.Context, "."), true
	}
	return p.expand("context", 0, cmp.Or(p.value("context"), "."))
}

// noContext reports a context that is neither a directory nor a URL; err is what
// looking for it gave.
func (p *parser) noContext(source string, err error) {
	switch {
	case err == nil:
		p.report("context", 0, syntax.Quoted(source)+" is not a directory", "name the directory that it is in")
	case source == "-" && p.value("file") == "-":
		p.report("context", 0, "standard input cannot be both the context and the Dockerfile", "unpack the context into a directory")
	case source == "-":
		p.report("context", 0, "a context from standard input is not supported", "unpack it into a directory")
	case strings.Contains(source, "{{"):
		p.report("context", 0, "the template is unknown", "the only one is {{defaultContext}}")
	case os.IsNotExist(err) && p.settings.IsArgument("context"):
		p.report("context", 0, "no directory "+syntax.Quoted(source), "the argument is the context; warmlayer --help lists the commands")
	case os.IsNotExist(err):
		p.report("context", 0, "no directory "+syntax.Quoted(source), "relative paths start from the working directory")
	default:
		p.report("context", 0, "the directory cannot be read", "check the path and its permissions")
	}
}

// locate is where a path of the user's is, from the process's working directory.
func locate(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// absolute is the absolute path of a file that the user names.
func (p *parser) absolute(name string) string {
	name = locate(p.dir, name)
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name // in a process without a working directory nothing can be found
}

// relative is the slash-separated path from base to target, "" when they are one.
func relative(base, target string) string {
	if abs, err := filepath.Abs(base); err == nil {
		base = abs
	}
	if abs, err := filepath.Abs(target); err == nil {
		target = abs
	}
	rel, err := filepath.Rel(base, target)
	if err != nil || rel == "." {
		return ""
	}
	return filepath.ToSlash(rel)
}
