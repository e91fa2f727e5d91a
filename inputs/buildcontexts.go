package inputs

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

const (
	imagePrefix  = "docker-image://"
	layoutPrefix = "oci-layout://"
	targetPrefix = "target:"
)

// buildContexts reads name=place, in the order in which buildx tells the places apart
// (build/opt.go): a URL, an image, an OCI layout, or else a directory.
func (p *parser) buildContexts() []syntax.Pair {
	var pairs []syntax.Pair
	for _, it := range p.list("build-contexts") {
		name, place, ok := strings.Cut(it.Text, "=")
		if !ok || name == "" || place == "" {
			p.report("build-contexts", it.Line, "expected name=place", "write it like docs=../docs or base=docker-image://alpine:3.22")
			continue
		}
		name, problem := contextName(name)
		if problem == nil && has(pairs, name) {
			problem = &syntax.Problem{What: "context " + syntax.Quoted(name) + " is given twice", Hint: "leave one of the lines out"}
		}
		place, expanded := p.expand("build-contexts", it.Line, place)
		if problem == nil && expanded {
			place, problem = p.placeOfContext(place)
		}
		if problem == nil && expanded {
			problem = p.checkPlace(place)
		}
		if problem != nil {
			p.report("build-contexts", it.Line, problem.What, problem.Hint)
		}
		if problem == nil && expanded {
			pairs = append(pairs, syntax.Pair{Key: name, Value: place})
		}
	}
	return pairs
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

// placeOfContext is a context's place with its path, if it has one, as it is here.
func (p *parser) placeOfContext(place string) (string, *syntax.Problem) {
	if layout, ok := strings.CutPrefix(place, layoutPrefix); ok {
		path, problem := p.place(layout)
		return layoutPrefix + path, problem
	}
	return p.place(place)
}

// checkPlace looks for what can be looked for without a network.
func (p *parser) checkPlace(place string) *syntax.Problem {
	image, isImage := strings.CutPrefix(place, imagePrefix)
	layout, isLayout := strings.CutPrefix(place, layoutPrefix)
	switch {
	case isRemote(place):
		if _, isGit, err := dfgitutil.ParseGitRef(place); isGit && err != nil {
			return unknownQuery
		}
		return nil
	case isImage:
		if _, err := reference.ParseNormalizedNamed(image); err != nil {
			return syntax.NotAnImage(image)
		}
		return nil
	case isLayout:
		return p.checkLayout(layout)
	case strings.HasPrefix(place, targetPrefix):
		return &syntax.Problem{What: "a target is a context in bake files alone", Hint: "a stage of this Dockerfile needs no context: write COPY --from=stage"}
	}
	info, err := os.Stat(locate(p.dir, place))
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &syntax.Problem{What: syntax.Quoted(place) + " is not a directory", Hint: "name the directory that it is in"}
	case os.IsNotExist(err):
		return &syntax.Problem{What: "no directory " + syntax.Quoted(place), Hint: "an image is written " + imagePrefix + "name; relative paths start from the working directory"}
	}
	return &syntax.Problem{What: "the directory cannot be read", Hint: unreadable.Hint}
}

// checkLayout looks for the index of path[:tag][@digest].
func (p *parser) checkLayout(text string) *syntax.Problem {
	path := text
	if before, after, ok := cutLast(path, "@"); ok && reference.DigestRegexp.MatchString(after) {
		path = before
	}
	if before, after, ok := cutLast(path, ":"); ok && reference.TagRegexp.MatchString(after) {
		path = before
	}
	if !p.isFile(filepath.Join(path, "index.json")) {
		return &syntax.Problem{What: "no OCI layout at " + syntax.Quoted(path), Hint: "write it like oci-layout://path:tag, a directory that has an index.json"}
	}
	return nil
}

func cutLast(text, separator string) (before, after string, ok bool) {
	at := strings.LastIndex(text, separator)
	if at < 0 {
		return text, "", false
	}
	return text[:at], text[at+len(separator):], true
}
