package solve

import (
	"cmp"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

// Warning is a warning of BuildKit's, such as one of a Dockerfile check.
type Warning struct {
	Text   string // "StageNameCasing: Stage name 'Base' should be lowercase (line 1)"
	Detail string // what it means; may have several lines
	URL    string // page that explains it; "": none
	Place  Place
}

// Place is a range of lines in a file of the repository. The zero value is nowhere.
type Place struct {
	File          string // slash-separated, from the working directory or the Git repository's root; "stdin"
	Line, EndLine int    // from 1; 0 where only the file is known
}

// Failure is where in the Dockerfile a build failed.
type Failure struct {
	Place Place
	Step  string // the step's name; "" where none ran
	Log   string // the last lines that the step wrote
}

// warning is BuildKit's warning with its place in the repository.
func (b *run) warning(w *client.VertexWarning) Warning {
	var detail []string
	for _, line := range w.Detail {
		detail = append(detail, string(line))
	}
	return Warning{Text: string(w.Short), Detail: strings.Join(detail, "\n"), URL: w.URL, Place: b.place(w.SourceInfo, w.Range)}
}

// byLine compares where two warnings begin.
func byLine(a, b *client.VertexWarning) int {
	first := func(w *client.VertexWarning) int32 {
		if len(w.Range) == 0 {
			return 0
		}
		return w.Range[0].GetStart().GetLine()
	}
	return cmp.Or(cmp.Compare(a.SourceInfo.GetFilename(), b.SourceInfo.GetFilename()), cmp.Compare(first(a), first(b)))
}

// place is where a range of a source is in the repository. BuildKit calls the Dockerfile by
// the name that the frontend was given.
func (b *run) place(source *pb.SourceInfo, ranges []*pb.Range) Place {
	if source == nil || source.Filename == "" {
		return Place{}
	}
	p := Place{File: filepath.ToSlash(source.Filename)}
	if d := b.Inputs.Dockerfile; path.Base(d.Filename()) == path.Base(p.File) {
		p.File = d.Name
	}
	for _, r := range ranges {
		if line := int(r.GetStart().GetLine()); p.Line == 0 || line < p.Line {
			p.Line = line
		}
		p.EndLine = max(p.EndLine, p.Line, int(r.GetEnd().GetLine()))
	}
	return p
}

// failure is where the build failed, from BuildKit's typed errors. It is nil if these name no
// place in a source.
func (b *run) failure(err error, w *watch) *Failure {
	for _, source := range slices.Backward(errdefs.Sources(err)) {
		place := b.place(source.Info, source.Ranges)
		if place.Line == 0 {
			continue
		}
		f := &Failure{Place: place}
		var vertex *errdefs.VertexError
		if errors.As(err, &vertex) {
			f.Step, f.Log = w.said(digest.Digest(vertex.Digest))
		}
		return f
	}
	return nil
}
