package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/ci"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// lastLines is how many lines of a failed step's log are shown with its failure.
const lastLines = 20

// Notes are the Dockerfile's warnings, where those are wanted, at their lines, and the failure of
// the build, at its line where it has one, with all that redact hides hidden. Warnings without a
// place in a file are left out, and so are a cancelled build and what the input call has found.
func (r Report) Notes(warnings bool, redact func(string) string) []ci.Note {
	failed := r.Result.Failure != nil || r.Err != nil && r.Result.Answer == "" && !errors.Is(r.Err, context.Canceled)
	r = r.redacted(redact)
	var all []ci.Note
	if warnings {
		for _, w := range r.Result.Warnings {
			title, text := rule(w.Text)
			all = append(all, note("warning", w.Place, title, text, w.Detail, w.URL))
		}
	}
	all = slices.DeleteFunc(all, func(n ci.Note) bool { return n.File == "" })
	if failed {
		f := r.explained()
		title := cmp.Or(syntax.Short(f.Step, longestName), syntax.Line(f.Place.File), "warmlayer")
		all = append(all, note("error", f.Place, title, f.What, f.Next, message(r.Err), tail(f.Log)))
	}
	return all
}

// explained is what is known of the build's failure; zero where nothing is.
func (r Report) explained() solve.Failure {
	if r.Result.Failure == nil {
		return solve.Failure{}
	}
	return *r.Result.Failure
}

// note makes texts, each of any number of lines, a note.
func note(level string, place solve.Place, title string, texts ...string) ci.Note {
	n := ci.Note{Level: level, File: syntax.Line(place.File), Line: place.Line, EndLine: place.EndLine, Title: syntax.Line(title)}
	for _, text := range texts {
		n.Message = append(n.Message, printable(text)...)
	}
	return n
}

// rule parts a check's warning into the rule's name and the rest.
func rule(text string) (name, rest string) {
	name, rest, ok := strings.Cut(text, ": ")
	if !ok || strings.Contains(name, " ") {
		return "Dockerfile", text
	}
	return name, rest
}

// tail is the end of a log.
func tail(log string) string {
	lines := printable(log)
	return strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
}

// printable are the lines of a text that are not empty, each made printable.
func printable(text string) []string {
	var lines []string
	for text := range strings.Lines(text) {
		if text = syntax.Line(text); text != "" {
			lines = append(lines, text)
		}
	}
	return lines
}

// place shows a place: "app/Dockerfile:7"; "" for none.
func place(p solve.Place) string {
	if p.File == "" || p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}
