package inputs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

const (
	imagePrefix  = "docker-image://"
	layoutPrefix = "oci-layout://"
	targetPrefix = "target:"
)

// OCILayout is an image in the directory of an OCI layout. Without both tag and digest the
// text that it comes from means the tag latest.
type OCILayout struct {
	Dir    string // absolute
	Tag    string // "": none
	Digest digest.Digest
}

// buildContexts reads name=source.
func (p *parser) buildContexts() []Context {
	var all []Context
	for _, it := range p.list("build-contexts") {
		name, source, ok := strings.Cut(it.Text, "=")
		if !ok || name == "" || source == "" {
			p.report("build-contexts", it.Line, "expected name=source", "write it like docs=../docs or base=docker-image://alpine:3.22")
			continue
		}
		name, problem := contextName(name)
		if problem == nil && slices.ContainsFunc(all, func(c Context) bool { return c.Name == name }) {
			problem = &syntax.Problem{What: "context " + syntax.Quoted(name) + " is given twice", Hint: "leave one of the lines out"}
		}
		source, expanded := p.expand("build-contexts", it.Line, source)
		var c Context
		if problem == nil && expanded {
			c, problem = p.namedContext(source)
		}
		if problem != nil {
			p.report("build-contexts", it.Line, problem.What, problem.Hint)
		}
		if problem == nil && expanded {
			c.Name = name
			all = append(all, c)
		}
	}
	return all
}

// contextName brings a context's name to the form in which the frontend looks for it
// (frontend/dockerui/config.go in BuildKit): that of an image without docker.io and
// latest. Stages are looked for in lower case.
func contextName(text string) (string, *syntax.Problem) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil && !strings.ContainsAny(text, "/:@") {
		named, err = reference.ParseNormalizedNamed(strings.ToLower(text))
	}
	if err != nil {
		return "", &syntax.Problem{What: syntax.Quoted(text) + " is not the name of a context", Hint: "write a stage's name, or an image as FROM has it"}
	}
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest"), nil
}

// namedContext reads the source of a named context, in the order in which buildx tells the
// kinds apart (build/opt.go): a URL, an image, an OCI layout, or else a directory. It looks for
// what can be looked for without a network.
func (p *parser) namedContext(source string) (Context, *syntax.Problem) {
	image, isImage := strings.CutPrefix(source, imagePrefix)
	layout, isLayout := strings.CutPrefix(source, layoutPrefix)
	switch {
	case isRemote(source):
		return remoteContext(source)
	case isImage:
		if _, err := reference.ParseNormalizedNamed(image); err != nil {
			return Context{}, syntax.NotAnImage(image)
		}
		return Context{Kind: Image, Source: source}, nil
	case isLayout:
		found, problem := p.layout(layout)
		return Context{Kind: Layout, Source: source, Layout: found}, problem
	case strings.HasPrefix(source, targetPrefix):
		return Context{}, &syntax.Problem{What: "a target can be a context only in bake files", Hint: "a stage of this Dockerfile needs no context: write COPY --from=stage"}
	}
	return p.namedDirectory(source)
}

func (p *parser) namedDirectory(name string) (Context, *syntax.Problem) {
	name, problem := p.translate(name)
	if problem != nil {
		return Context{}, problem
	}
	info, err := os.Stat(locate(p.dir, name))
	switch {
	case err == nil && info.IsDir():
		return p.directory(name), nil
	case err == nil:
		return Context{}, &syntax.Problem{What: syntax.Quoted(name) + " is not a directory", Hint: "name the directory that it is in"}
	case os.IsNotExist(err):
		return Context{}, &syntax.Problem{What: "no directory " + syntax.Quoted(name), Hint: "an image is written " + imagePrefix + "name; relative paths start from the working directory"}
	}
	return Context{}, &syntax.Problem{What: "the directory cannot be read", Hint: unreadable.Hint}
}

// layout reads path[:tag][@digest], and looks for the index there.
func (p *parser) layout(text string) (OCILayout, *syntax.Problem) {
	l := parseLayout(text)
	name, problem := p.translate(l.Dir)
	switch {
	case problem != nil:
		return l, problem
	case l.Digest != "" && l.Digest.Validate() != nil:
		return l, &syntax.Problem{What: syntax.Quoted(l.Digest.String()) + " is not a digest", Hint: "write it like sha256: and 64 hexadecimal digits"}
	case !p.isFile(filepath.Join(name, "index.json")):
		return l, &syntax.Problem{What: "no OCI layout at " + syntax.Quoted(name), Hint: "write it like oci-layout://path:tag, a directory that has an index.json"}
	}
	l.Dir = p.absolute(name)
	return l, nil
}

var (
	wholeDigest = regexp.MustCompile(`^(?:` + reference.DigestRegexp.String() + `)$`)
	wholeTag    = regexp.MustCompile(`^(?:` + reference.TagRegexp.String() + `)$`)
)

// parseLayout takes dir, dir:tag, dir@digest or dir:tag@digest apart as docker buildx v0.37.0
// does (util/ocilayout). Unlike there, what follows a colon must be a tag as a whole: l:x/y
// is a directory.
func parseLayout(text string) OCILayout {
	l := OCILayout{Dir: text}
	if at := strings.LastIndex(l.Dir, "@"); at >= 0 && wholeDigest.MatchString(l.Dir[at+1:]) {
		l.Dir, l.Digest = l.Dir[:at], digest.Digest(l.Dir[at+1:])
	}
	if colon := strings.LastIndex(l.Dir, ":"); colon >= 0 && wholeTag.MatchString(l.Dir[colon+1:]) {
		l.Dir, l.Tag = l.Dir[:colon], l.Dir[colon+1:]
	}
	if l.Tag == "" && l.Digest == "" {
		l.Tag = "latest"
	}
	return l
}
