package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// The greatest length in characters of a step's name, and of any other cell, in the log. The
// build's error is shown in full.
const (
	longestName = 100
	longestCell = 300
)

// Console writes the report for the log: about ten lines of UTF-8 without colours. A failure
// is at the end, where readers of a log look first. The error is the writer's.
func (r Report) Console(w io.Writer) error {
	var text bytes.Buffer
	p := page{tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)}
	fmt.Fprintf(p.w, "warmlayer: %s\n", r.headline())
	p.rows("auto", cells(r.Auto.String()))
	p.rows("state", cells(r.State))
	p.rows("parts", r.parts()...)
	p.rows("read", r.briefly(sourceStates(r.shown()), r.reads())...)
	p.rows("steps", cells(r.steps()))
	p.rows("miss", r.missRows()...)
	p.rows("mounts", r.mountRows()...)
	p.rows("write", r.briefly(outcomes(r.Result.Exports), r.writes())...)
	p.rows("image", r.imageRows()...)
	p.rows("retry", cells(r.Result.Retried))
	for _, warning := range r.warnings() {
		p.rows("warn", cells(warning))
	}
	p.rows("time", cells(r.phases()))
	p.rows("", r.timingRows()...)
	p.rows("error", r.failure()...)
	_, err := w.Write(text.Bytes())
	return err
}

// page lays out rows: a label, and cells in columns.
type page struct{ w *tabwriter.Writer }

// rows shows rows under one label and leaves out empty ones. Each label has columns of its
// own width.
func (p page) rows(label string, rows ...[]string) {
	for _, row := range rows {
		for len(row) > 0 && row[len(row)-1] == "" {
			row = row[:len(row)-1]
		}
		if len(row) == 0 {
			continue
		}
		fmt.Fprintf(p.w, "  %-6s %s\n", label, strings.Join(row, "\t"))
		label = ""
	}
	_ = p.w.Flush() // into memory
}

// parts are the images of several jobs.
func (r Report) parts() (rows [][]string) {
	for _, d := range r.Merged {
		rows = append(rows, cells(d.String()))
	}
	return rows
}

// headline names the scope that the build writes, and the reason: "b-main (push to main)".
func (r Report) headline() string {
	switch {
	case r.Merged != nil && r.Err != nil:
		return "the parts are not merged"
	case r.Merged != nil:
		return "one image of " + count(len(r.Merged), "part")
	}
	name := string(r.Plan.Write)
	switch {
	case r.Result.Images != nil:
		name = count(len(r.Result.Images), "target")
	case name == "":
		name = "no scope to write"
	}
	if r.Err != nil {
		name = "build failed, " + name
	}
	if r.Plan.Why != "" {
		name += " (" + r.Plan.Why + ")"
	}
	return syntax.Line(name)
}

// reads has a row for each source.
func (r Report) reads() [][]string {
	sources := r.shown()
	if len(sources) == 0 && r.Err == nil && r.Merged == nil {
		return [][]string{{"nothing"}}
	}
	var rows [][]string
	for _, s := range sources {
		rows = append(rows, cells(string(s.State), s.Why, s.Name, s.Cache, join(", ", used(s), holds(s), reason(s))))
	}
	return rows
}

// holds is the size of the layers in a source's cache: "1.2GiB"; "" where that is not known, or the cache was of no use.
func holds(s cacheplan.Source) string {
	if s.Bytes == 0 || s.State == cacheplan.Failed {
		return ""
	}
	return units.BytesSize(float64(s.Bytes))
}

// used says how many steps of the build a source has; "" where that is not known.
func used(s cacheplan.Source) string {
	if s.Used == nil {
		return ""
	}
	return count(*s.Used, "step") + " used"
}

// steps counts the steps and names the first that was not cached.
func (r Report) steps() string {
	if len(r.Result.Steps) == 0 {
		return ""
	}
	said := fmt.Sprintf("%d of %d cached", r.Result.Hits(), len(r.Result.Steps))
	if miss := r.firstMiss(); miss != "" {
		said += ", first miss: " + syntax.Short(miss, longestName)
	}
	return join("; ", said, r.before())
}

// writes has a row for each export.
func (r Report) writes() [][]string {
	if len(r.Result.Exports) == 0 && r.Err == nil && r.Merged == nil {
		return [][]string{{"nothing"}}
	}
	var rows [][]string
	for _, e := range r.Result.Exports {
		rows = append(rows, cells(string(e.Outcome), e.Name, e.Cache, remark(e)))
	}
	return rows
}

// remark is the time that a written cache took, and what is to be said of the export.
func remark(e solve.Export) string {
	if e.Outcome != solve.Written {
		return message(e.Err)
	}
	return join(", ", duration(e.Seconds), copied(e), kept(e), message(e.Err))
}

// copied says whose cache was copied, since it has this build: "copy of b-main".
func copied(e solve.Export) string {
	if e.From == "" {
		return ""
	}
	return "copy of " + e.From
}

// kept says what a scope holds of builds before this one, and what was dropped: "beside 3 earlier
// builds of 2 other variants (+120 MB), 1 dropped".
func kept(e solve.Export) string {
	k, said := e.Kept, ""
	if k.Builds > 0 {
		said = "beside " + count(k.Builds, "earlier build")
		if k.Variants > 0 {
			said += " of " + count(k.Variants, "other variant")
		}
		said += " (+" + units.HumanSize(float64(k.Bytes)) + ")"
	}
	if k.Dropped > 0 {
		said = join(", ", said, fmt.Sprintf("%d dropped", k.Dropped))
	}
	return said
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// join joins the texts that are not empty.
func join(separator string, texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), separator)
}

// failure has rows for what happened and what to do next, or else for the failed step, and for
// each line of the build's error.
func (r Report) failure() [][]string {
	if r.Err == nil {
		return nil
	}
	var rows [][]string
	f := r.explained()
	switch step := r.failed(); {
	case f.What != "":
		rows = append(rows, []string{syntax.Line(located(f))})
		if f.Next != "" {
			rows = append(rows, []string{"next: " + syntax.Line(f.Next)})
		}
	case step != "":
		rows = append(rows, []string{syntax.Short(step, longestName)})
	}
	for text := range strings.Lines(strings.TrimSpace(r.Err.Error())) {
		rows = append(rows, []string{syntax.Line(text)})
	}
	return rows
}

// located is what happened, after its place: "app/Dockerfile:7: COPY nofile: not in the context".
func located(f solve.Failure) string {
	if at := place(f.Place); at != "" {
		return at + ": " + f.What
	}
	return f.What
}

// cells makes a row of texts.
func cells(texts ...string) []string {
	for i := range texts {
		texts[i] = syntax.Short(texts[i], longestCell)
	}
	return texts
}
