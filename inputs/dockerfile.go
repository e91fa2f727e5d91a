package inputs

import (
	"bytes"
	"cmp"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	dfparser "github.com/moby/buildkit/frontend/dockerfile/parser"
	"golang.org/x/term"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

const (
	defaultDockerfile = "Dockerfile"
	standardInput     = "-"
)

// Dockerfile is a file on this machine, a file in a context that BuildKit fetches, or text
// that came from standard input.
type Dockerfile struct {
	Path      string // the file's absolute path; "": it is no file on this machine
	InContext string // its slash-separated path in the context that BuildKit fetches; "": it is not there
	Text      []byte // nil where BuildKit fetches it

	// Name is what messages call it: a slash-separated path from the working directory or, for a
	// file in a Git context, from the repository's root; "stdin".
	Name string
	// Key tells Dockerfiles apart in the key of a cache: "" for the default one of the context,
	// "stdin", or a slash-separated path from where Subdir of the context starts.
	Key string
}

// Filename is the name under which the frontend looks for the Dockerfile.
func (d Dockerfile) Filename() string {
	if d.Path != "" {
		return filepath.Base(d.Path)
	}
	return cmp.Or(d.InContext, defaultDockerfile)
}

// officialFrontends are the repositories of BuildKit's own Dockerfile frontend.
var officialFrontends = []string{"docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"}

// CustomFrontend names what would interpret the Dockerfile, "" for BuildKit's own frontend:
// "the frontend example.org/frontend", "the frontend of a remote Dockerfile". A
// frontend is an image that the Dockerfile chooses with "# syntax=", or the build with
// BUILDKIT_SYNTAX. BuildKit hands it the attributes of cache imports, with their credentials
// (v0.34.2, frontend/gateway).
func (v Values) CustomFrontend() string {
	chosen := v.Syntax
	if chosen == "" {
		if v.Dockerfile.InContext != "" {
			return "the frontend of a remote Dockerfile"
		}
		chosen, _, _, _ = dfparser.DetectSyntax(v.Dockerfile.Text)
	}
	image, _, _ := strings.Cut(strings.TrimSpace(chosen), " ")
	named, err := reference.ParseNormalizedNamed(image)
	if image == "" || err == nil && slices.Contains(officialFrontends, named.Name()) {
		return ""
	}
	return "the frontend " + image
}

// dockerfile reads where the Dockerfile of a context is, and looks for it.
func (p *parser) dockerfile(c Context) Dockerfile {
	file, mounted := p.contained("file", 0, p.value("file"))
	switch {
	case !mounted:
	case file == standardInput:
		return p.dockerfileFromInput(c)
	case httpURL.MatchString(file):
		p.report("file", 0, "the Dockerfile must be a file", "save it in the working directory first, or write - and pipe it in")
	case c.Remote() && !filepath.IsAbs(file):
		file = filepath.ToSlash(cmp.Or(file, defaultDockerfile))
		return Dockerfile{InContext: file, Name: path.Join(c.Subdir, file), Key: dockerfileKey(c, file)}
	case c.Remote():
		return p.readDockerfile(p.findDockerfile("", file), c)
	case c.Dir != "":
		return p.readDockerfile(p.findDockerfile(c.Source, file), c)
	case file != "":
		p.findDockerfile(c.Source, file)
	}
	return Dockerfile{}
}

// dockerfileKey is the key of a Dockerfile at a path from where the context's own path ends.
func dockerfileKey(c Context, file string) string {
	if strings.EqualFold(file, defaultDockerfile) {
		return ""
	}
	return path.Join(c.Subdir, file)
}

// dockerfileFromInput reads standard input to its end.
func (p *parser) dockerfileFromInput(c Context) Dockerfile {
	const hint = "pipe it in: warmlayer --file - < Dockerfile"
	var text []byte
	var err error
	f, isFile := p.stdin.(interface{ Fd() uintptr })
	switch {
	case c.Source == standardInput: // which is reported with the context
		return Dockerfile{}
	case p.stdin == nil:
		p.report("file", 0, "there is no standard input to read the Dockerfile from", "name a file")
		return Dockerfile{}
	case isFile && term.IsTerminal(int(f.Fd())):
		p.report("file", 0, "the Dockerfile is read from standard input, which is a terminal", hint)
		return Dockerfile{}
	default:
		text, err = io.ReadAll(p.stdin)
	}
	switch {
	case err != nil:
		p.report("file", 0, "the Dockerfile cannot be read from standard input", hint)
	case len(bytes.TrimSpace(text)) == 0:
		p.report("file", 0, "the Dockerfile is read from standard input, which is empty", hint)
	}
	return Dockerfile{Text: text, Name: "stdin", Key: "stdin"}
}

// findDockerfile is the path of a directory's Dockerfile, "" where there is a problem. An
// empty name is the default one.
func (p *parser) findDockerfile(context, file string) string {
	given := file != ""
	if !given {
		file = filepath.Join(context, defaultDockerfile)
	}
	info, err := os.Stat(locate(p.dir, file))
	switch {
	case err == nil && info.Mode().IsRegular():
		return file
	case err == nil && info.IsDir():
		p.report("file", 0, syntax.Quoted(file)+" is a directory", p.lookAlikes(file))
		return ""
	case err == nil:
		p.report("file", 0, syntax.Quoted(file)+" is not a regular file", "write - to read the Dockerfile from standard input")
		return ""
	}
	if lower := p.lowerCase(file); lower != "" {
		return lower
	}
	hint := p.lookAlikes(filepath.Dir(file))
	if inContext := filepath.Join(context, file); given && p.isFile(inContext) {
		hint = "the path starts from the working directory: did you mean " + syntax.Quoted(inContext) + "?"
	}
	p.report("file", 0, "no Dockerfile at "+syntax.Quoted(file), hint)
	return ""
}

// readDockerfile reads a file that was found.
func (p *parser) readDockerfile(file string, c Context) Dockerfile {
	if file == "" {
		return Dockerfile{}
	}
	d := Dockerfile{
		Path: p.absolute(file), Name: relative(p.dir, locate(p.dir, file)),
		Key: dockerfilePlace(c, p.absolute(file)),
	}
	var err error
	if d.Text, err = os.ReadFile(d.Path); err != nil {
		p.report("file", 0, "the Dockerfile at "+syntax.Quoted(file)+" cannot be read", unreadable.Hint)
	}
	return d
}

// lowerCase is the file called dockerfile that is used when Dockerfile is missing, as in buildx's
// build/opt.go, or "".
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
		known := strings.Contains(name, "dockerfile") || strings.Contains(name, "containerfile")
		if !e.IsDir() && !strings.HasSuffix(name, "ignore") && (known || syntax.Nearest(name, []string{defaultDockerfile}) != "") {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	if len(found) == 0 {
		return "set file to the Dockerfile's path, or context to its directory"
	}
	slices.Sort(found)
	return "set file to " + strings.Join(found[:min(len(found), 4)], " or ")
}
