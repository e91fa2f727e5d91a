package solve

import (
	"bytes"
	"cmp"
	"fmt"
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

// BuildKit's words where it cuts the output of a step (v0.34.2, util/progress/logs/logs.go, Write).
var (
	clipMark = []byte("\n[output clipped, log limit ")
	clipEnd  = []byte(" reached]\n")
)

// clippedAt is the limit that an output was cut at; "": it was not.
func clippedAt(output []byte) string {
	_, rest, found := bytes.Cut(output, clipMark)
	limit, _, ended := bytes.Cut(rest, clipEnd)
	if !found || !ended {
		return ""
	}
	return string(limit)
}

// clipped are warnings of steps whose output BuildKit has cut.
func (w *watch) clipped(managed bool) (warnings []Warning) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := "set driver-opts to env.BUILDKIT_STEP_LOG_MAX_SIZE=-1,env.BUILDKIT_STEP_LOG_MAX_SPEED=-1"
	if !managed {
		next = "start buildkitd with the variables BUILDKIT_STEP_LOG_MAX_SIZE=-1 and BUILDKIT_STEP_LOG_MAX_SPEED=-1"
	}
	for _, d := range w.order {
		if v := w.vertices[d]; v.clipped != "" {
			text := fmt.Sprintf("the log lacks output of %s, which BuildKit cuts at %s; for all of it %s", v.name, v.clipped, next)
			warnings = append(warnings, Warning{Text: text})
		}
	}
	return warnings
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
