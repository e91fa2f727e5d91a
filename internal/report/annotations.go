package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/internal/solve"
)

// lastLines is how many lines of a failed step's log are shown with its failure.
const lastLines = 20

// Annotations writes the commands that show the Dockerfile's warnings, where those are
// wanted, and the step that failed, at their lines. GitHub's, and Gitea's and Forgejo's, are
//
//	::warning file=Dockerfile,line=3,endLine=3,title=StageNameCasing::Stage name 'Base' should be lowercase
//	::error file=app/Dockerfile,line=7,endLine=8,title=RUN make::exit code: 2%0Amake: no rule
//
// and Azure's
//
//	##vso[task.logissue type=warning;sourcepath=Dockerfile;linenumber=3;code=StageNameCasing]Stage name …
//
// Other CIs have none. All that redact hides is hidden. What has no place in a file is left
// out. The forms are those of docs.github.com, "Workflow commands", with its toolkit
// (packages/core/src/command.ts), and of learn.microsoft.com, "Logging commands".
func (r Report) Annotations(w io.Writer, warnings bool, redact func(string) string) error {
	write := note.github
	switch r.Plan.Facts.CI {
	case "github", "gitea", "forgejo":
	case "azure":
		write = note.azure
	default:
		return nil
	}
	var commands bytes.Buffer
	for _, n := range r.redacted(redact).notes(warnings) {
		write(n, &commands)
	}
	_, err := w.Write(commands.Bytes())
	return err
}

// note is what is said about a place in a file.
type note struct {
	level string // "warning" or "error"
	place solve.Place
	title string
	texts []string // each of any number of lines
}

// notes are the warnings and the failure, where they have a place.
func (r Report) notes(warnings bool) []note {
	var all []note
	if warnings {
		for _, w := range r.Result.Warnings {
			title, text := rule(w.Text)
			all = append(all, note{"warning", w.Place, title, []string{text, w.Detail, w.URL}})
		}
	}
	if f := r.Result.Failure; f != nil {
		title := cmp.Or(short(f.Step, longestName), "Dockerfile")
		all = append(all, note{"error", f.Place, title, []string{message(r.Err), tail(f.Log)}})
	}
	return slices.DeleteFunc(all, func(n note) bool { return n.place.File == "" })
}

// message is the lines that there are.
func (n note) message() []string {
	var lines []string
	for _, text := range n.texts {
		lines = append(lines, printable(text)...)
	}
	return lines
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
		if text = line(text); text != "" {
			lines = append(lines, text)
		}
	}
	return lines
}

// github writes a note as GitHub's command.
func (n note) github(w io.Writer) {
	fmt.Fprintf(w, "::%s file=%s", n.level, propertyEscapes.Replace(line(n.place.File)))
	if n.place.Line > 0 {
		fmt.Fprintf(w, ",line=%d,endLine=%d", n.place.Line, max(n.place.Line, n.place.EndLine))
	}
	fmt.Fprintf(w, ",title=%s::%s\n", propertyEscapes.Replace(line(n.title)), dataEscapes.Replace(strings.Join(n.message(), "\n")))
}

var (
	dataEscapes     = strings.NewReplacer("%", "%25", "\n", "%0A")
	propertyEscapes = strings.NewReplacer("%", "%25", ":", "%3A", ",", "%2C")
)

// place shows a place: "app/Dockerfile:7"; "" for none.
func place(p solve.Place) string {
	if p.File == "" || p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}
