package solve

import (
	"cmp"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
)

// Warning is a warning of BuildKit, such as one of a Dockerfile check.
type Warning struct {
	Text   string // "StageNameCasing: Stage name 'Base' should be lowercase (line 1)"
	Detail string // what it means; may have several lines
	URL    string // page that explains it; "": none
	Place  Place
}

// Place is a range of lines in a file of the repository. The zero value is no place.
type Place struct {
	File          string // slash-separated, from the working directory or the Git repository's root; "stdin"
	Line, EndLine int    // from 1; 0 where only the file is known
}

// warning is BuildKit's warning with its place in the repository.
func (b *run) warning(w *client.VertexWarning) Warning {
	var detail []string
	for _, line := range w.Detail {
		detail = append(detail, string(line))
	}
	return Warning{Text: string(w.Short), Detail: strings.Join(detail, "\n"), URL: w.URL, Place: b.place(w.SourceInfo, w.Range)}
}

// sorted are the warnings in the order of their lines.
func (w *watch) sorted() []*client.VertexWarning {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.SortedStableFunc(slices.Values(w.warnings), byLine)
}

// byLine orders two warnings by their lines.
func byLine(a, b *client.VertexWarning) int {
	first := func(w *client.VertexWarning) int32 {
		if len(w.Range) == 0 {
			return 0
		}
		return w.Range[0].GetStart().GetLine()
	}
	return cmp.Or(cmp.Compare(a.SourceInfo.GetFilename(), b.SourceInfo.GetFilename()), cmp.Compare(first(a), first(b)))
}

// place is the place of a range of a source in the repository. BuildKit's name for the Dockerfile
// is the one that the frontend got.
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
