package inputs

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

const defaultDockerfile = "Dockerfile"

var httpURL = regexp.MustCompile(`^https?://`)

// context reads the context and the path of its Dockerfile, and looks for both on
// disk. As in buildx's build/opt.go, a directory of that name comes before a URL.
func (p *parser) context() (context, file string, remote bool) {
	context, ok := p.contextPlace()
	file, mounted := p.here("file", 0, p.value("file"))
	if ok && !isRemote(context) {
		context, ok = p.here("context", 0, context)
	}
	if !ok || !mounted {
		return context, file, true
	}
	info, err := os.Stat(locate(p.dir, context))
	isDir := err == nil && info.IsDir()
	remote = !isDir && isRemote(context)
	switch {
	case file == "-" || httpURL.MatchString(file):
		p.report("file", 0, "the Dockerfile must be a file", "save it in the working directory first")
	case remote:
		file = p.remoteDockerfile(context, file)
	case isDir || file != "":
		file = p.dockerfile(context, file)
	}
	if !isDir && !remote {
		p.noContext(context, err)
	}
	return context, file, remote
}

// contextPlace is the context as given or, on GitHub where nothing is checked out, the
// repository there.
func (p *parser) contextPlace() (string, bool) {
	if _, given := p.settings["context"]; !given && p.noCheckout() {
		return cmp.Or(p.repository.Context, "."), true
	}
	return p.expand("context", 0, cmp.Or(p.value("context"), "."))
}

// noContext reports a context that is neither a directory nor a URL; err is what
// looking for it gave.
func (p *parser) noContext(context string, err error) {
	switch {
	case err == nil:
		p.report("context", 0, syntax.Quoted(context)+" is not a directory", "name the directory that it is in")
	case context == "-":
		p.report("context", 0, "a context from standard input is not supported", "unpack it into a directory")
	case strings.Contains(context, "{{"):
		p.report("context", 0, "the template is unknown", "the only one is {{defaultContext}}")
	case os.IsNotExist(err) && p.settings["context"].from == argument:
		p.report("context", 0, "no directory "+syntax.Quoted(context), "the argument is the context; warmlayer --help lists the commands")
	case os.IsNotExist(err):
		p.report("context", 0, "no directory "+syntax.Quoted(context), "relative paths start from the working directory")
	default:
		p.report("context", 0, "the directory cannot be read", "check the path and its permissions")
	}
}

// isRemote tells whether BuildKit fetches the context itself
// (frontend/dockerui/context.go).
func isRemote(context string) bool {
	_, isGit, _ := dfgitutil.ParseGitRef(context)
	return isGit || httpURL.MatchString(context)
}

var unknownQuery = &syntax.Problem{
	What: "BuildKit does not understand the URL's query",
	Hint: "known are ref, subdir, checksum, submodules and keep-git-dir",
}

// remoteDockerfile is the Dockerfile's path for a URL. An absolute one is on disk, as
// in buildx; any other is in the context and is not looked at.
func (p *parser) remoteDockerfile(context, file string) string {
	if _, isGit, err := dfgitutil.ParseGitRef(context); isGit && err != nil {
		p.report("context", 0, unknownQuery.What, unknownQuery.Hint)
	}
	switch {
	case file == "":
		return defaultDockerfile
	case filepath.IsAbs(file):
		return p.dockerfile("", file)
	}
	return file
}

// dockerfile finds the Dockerfile of a directory.
func (p *parser) dockerfile(context, file string) string {
	given := file != ""
	if !given {
		file = filepath.Join(context, defaultDockerfile)
	}
	info, err := os.Stat(locate(p.dir, file))
	switch {
	case err == nil && !info.IsDir():
		return file
	case err == nil:
		p.report("file", 0, syntax.Quoted(file)+" is a directory", p.lookAlikes(file))
		return file
	}
	if lower := p.lowerCase(file); lower != "" {
		return lower
	}
	hint := p.lookAlikes(filepath.Dir(file))
	if inContext := filepath.Join(context, file); given && p.isFile(inContext) {
		hint = "the path starts from the working directory: did you mean " + syntax.Quoted(inContext) + "?"
	}
	p.report("file", 0, "no Dockerfile at "+syntax.Quoted(file), hint)
	return file
}

// lowerCase is the file called dockerfile that stands in for a missing Dockerfile,
// as in buildx's build/opt.go, or "".
func (p *parser) lowerCase(file string) string {
	dir, base := filepath.Split(file)
	if lower := dir + strings.ToLower(base); base == defaultDockerfile && p.isFile(lower) {
		return lower
	}
	return ""
}

func (p *parser) isFile(name string) bool {
	info, err := os.Stat(locate(p.dir, name))
	return err == nil && info.Mode().IsRegular()
}

// lookAlikes is the hint that names what may be Dockerfiles in a directory.
func (p *parser) lookAlikes(dir string) string {
	entries, err := os.ReadDir(locate(p.dir, dir))
	if err != nil {
		return "there is no directory " + syntax.Quoted(dir) + " either"
	}
	var found []string
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		ours := strings.Contains(name, "dockerfile") || strings.Contains(name, "containerfile")
		if !e.IsDir() && !strings.HasSuffix(name, "ignore") && (ours || syntax.Nearest(name, []string{defaultDockerfile}) != "") {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	if len(found) == 0 {
		return "set file to the Dockerfile's path, or context to its directory"
	}
	slices.Sort(found)
	return "set file to " + strings.Join(found[:min(len(found), 4)], " or ")
}
