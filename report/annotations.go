package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/warmlayer/warmlayer/build"
)

// lastLines is how many lines of a failed step's log are shown with its failure.
const lastLines = 20

// Annotations writes GitHub's commands that show the Dockerfile's warnings, where those
// are wanted, and the step that failed, at their lines:
//
//	::warning file=Dockerfile,line=3,endLine=3,title=StageNameCasing::Stage name 'Base' should be lowercase
//	::error file=app/Dockerfile,line=7,endLine=8,title=RUN make::exit code: 2%0Amake: no rule
//
// All that redact hides is hidden. What has no place in a file is left out. The form is
// that of docs.github.com, "Workflow commands", and of its toolkit (packages/core/src/command.ts).
func (r Report) Annotations(w io.Writer, warnings bool, redact func(string) string) error {
	r = r.redacted(redact)
	var commands bytes.Buffer
	if warnings {
		for _, warning := range r.Result.Warnings {
			title, text := rule(warning.Text)
			annotation(&commands, "warning", warning.Place, title, text, warning.Detail, warning.URL)
		}
	}
	if f := r.Result.Failure; f != nil {
		title := short(f.Step, longestName)
		if title == "" {
			title = "Dockerfile"
		}
		annotation(&commands, "error", f.Place, title, message(r.Err), tail(f.Log))
	}
	_, err := w.Write(commands.Bytes())
	return err
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

// annotation writes one command. Its message is the texts that there are, each on a line.
func annotation(w io.Writer, level string, p build.Place, title string, texts ...string) {
	if p.File == "" {
		return
	}
	var message []string
	for _, text := range texts {
		message = append(message, printable(text)...)
	}
	fmt.Fprintf(w, "::%s file=%s", level, propertyEscapes.Replace(line(p.File)))
	if p.Line > 0 {
		fmt.Fprintf(w, ",line=%d,endLine=%d", p.Line, max(p.Line, p.EndLine))
	}
	fmt.Fprintf(w, ",title=%s::%s\n", propertyEscapes.Replace(line(title)), dataEscapes.Replace(strings.Join(message, "\n")))
}

var (
	dataEscapes     = strings.NewReplacer("%", "%25", "\n", "%0A")
	propertyEscapes = strings.NewReplacer("%", "%25", ":", "%3A", ",", "%2C")
)

// place shows a place: "app/Dockerfile:7"; "" for none.
func place(p build.Place) string {
	if p.File == "" || p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}
