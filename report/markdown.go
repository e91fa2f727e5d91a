package report

import (
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/warmlayer/warmlayer/build"
)

// SummaryLimit is the size in bytes of the job summary that GitHub accepts from one
// step (docs.github.com, "Workflow commands", step isolation and limits).
const SummaryLimit = 1 << 20

// What the parts of a summary other than the steps may take: with them and the steps'
// table around its rows, the summary stays below its limit whatever the names are.
const (
	partLimit  = 96 << 10
	errorLimit = 16 << 10
	cellLimit  = 300 // characters
)

// Markdown is the job summary, in GitHub's dialect, of at most [SummaryLimit] bytes:
// what does not fit is left out, with a line that says how much. Every name and message
// stands in code, so that none can be markup, a link or a mention.
func (r Report) Markdown() string {
	before := r.title() + r.facts() + r.errorBlock() + r.sourceTable() + r.exportTable()
	after := r.warningList() + r.phases() + "\n"
	return before + r.stepTable(SummaryLimit-len(before)-len(after)) + after
}

func (r Report) title() string {
	switch {
	case r.Err != nil:
		return "### ❌ warmlayer: the build failed\n\n"
	case len(r.Result.Steps) == 0:
		return "### ✅ warmlayer: built in " + duration(r.Seconds) + "\n\n"
	}
	return fmt.Sprintf("### ✅ warmlayer: %d of %d steps cached, built in %s\n\n", r.hits(), len(r.Result.Steps), duration(r.Seconds))
}

// facts is a table of names and values.
func (r Report) facts() string {
	var b strings.Builder
	fact := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", name, value)
		}
	}
	b.WriteString("| | |\n| --- | --- |\n")
	if n := len(r.Result.Steps); n > 0 {
		fact("Cached", fmt.Sprintf("`%s` %d of %d", bar(r.hits(), n), r.hits(), n))
	}
	fact("First miss", code(r.firstMiss()))
	fact("Scope", cmp.Or(code(string(r.Plan.Write)), "none to write"))
	fact("Because", code(r.Plan.Why))
	fact("Image", code(r.Result.Digest.String()))
	var tags []string
	for _, tag := range r.tags() {
		tags = append(tags, code(tag)+" ")
	}
	fact("Tags", strings.TrimSpace(fit(tags, partLimit, "and %d more")))
	fact("Builder", code(r.Builder))
	fact("Retried", code(r.Result.Retried))
	return b.String() + "\n"
}

// bar shows a share in twenty cells. It is full only when the share is.
func bar(part, whole int) string {
	full := 20 * part / whole
	return strings.Repeat("█", full) + strings.Repeat("░", 20-full)
}

// errorBlock is a pre element: Markdown leaves what is in it alone up to its end tag.
func (r Report) errorBlock() string {
	if r.Err == nil {
		return ""
	}
	var b strings.Builder
	f := r.Result.Failure
	if f == nil {
		f = &build.Failure{}
	}
	if step := r.failed(); step != "" {
		b.WriteString("Failed step: " + code(step))
		if f.Place.File != "" {
			b.WriteString(", " + code(place(f.Place)))
		}
		b.WriteString("\n\n")
	}
	return b.String() + pre(r.Err.Error()) + pre(tail(f.Log))
}

// pre shows the lines of a text as they are, as many as fit; "" for none.
func pre(text string) string {
	var lines []string
	for text := range strings.Lines(strings.TrimSpace(text)) {
		lines = append(lines, html.EscapeString(short(text, 10*cellLimit))+"\n")
	}
	if len(lines) == 0 {
		return ""
	}
	return "<pre>\n" + fit(lines, errorLimit, "and %d more lines\n") + "</pre>\n\n"
}

func (r Report) sourceTable() string {
	var rows []string
	for _, s := range r.Result.Sources {
		rows = append(rows, row(string(s.State), code(s.Name), code(s.Why), code(s.Cache), code(reason(s))))
	}
	return table([]string{"Read", "Scope", "Why", "Cache", "Reason"}, rows, partLimit)
}

func (r Report) exportTable() string {
	var rows []string
	for _, e := range r.Result.Exports {
		took := ""
		if e.Seconds > 0 {
			took = duration(e.Seconds)
		}
		rows = append(rows, row(string(e.Outcome), code(e.Name), code(e.Cache), took, code(message(e.Err))))
	}
	return table([]string{"Write", "Scope", "Cache", "Time", "Reason"}, rows, partLimit)
}

// stepTable takes at most limit bytes. It is folded: there may be many steps.
func (r Report) stepTable(limit int) string {
	if len(r.Result.Steps) == 0 {
		return ""
	}
	var rows []string
	for _, s := range r.Result.Steps {
		result := duration(s.Seconds)
		switch {
		case cancelled(s):
			result = "cancelled"
		case s.Error != "":
			result = "failed after " + result
		case s.Cached:
			result = "cached"
		}
		rows = append(rows, row(code(s.Name), result))
	}
	top := "<details><summary>Steps</summary>\n\n"
	bottom := "</details>\n\n"
	return top + table([]string{"Step", "Result"}, rows, limit-len(top)-len(bottom)) + bottom
}

func (r Report) warningList() string {
	var items []string
	for _, text := range r.warnings() {
		item := "- ⚠️ " + code(text)
		if i := slices.IndexFunc(r.Result.Warnings, func(w build.Warning) bool { return w.Text == text }); i >= 0 {
			for _, more := range []string{place(r.Result.Warnings[i].Place), r.Result.Warnings[i].URL} {
				if more != "" {
					item += " " + code(more)
				}
			}
		}
		items = append(items, item+"\n")
	}
	if len(items) == 0 {
		return ""
	}
	return fit(items, partLimit, "- and %d more\n") + "\n"
}

// table has a header and rows, in at most limit bytes; "" without rows.
func table(header, rows []string, limit int) string {
	if len(rows) == 0 {
		return ""
	}
	top := row(header...) + "|" + strings.Repeat(" --- |", len(header)) + "\n"
	return top + fit(rows, limit-len(top)-1, "| and %d more |\n") + "\n"
}

func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// fit joins the items, in at most limit bytes: if not all fit, as many as do, and
// then how many do not.
func fit(items []string, limit int, rest string) string {
	size := 0
	for _, item := range items {
		size += len(item)
	}
	n := len(items)
	for size > limit && n > 0 {
		if n == len(items) {
			limit -= len(rest) + len("000000000")
		}
		n--
		size -= len(items[n])
	}
	out := strings.Join(items[:n], "")
	if n < len(items) {
		out += fmt.Sprintf(rest, len(items)-n)
	}
	return out
}

// code shows a name or message as code on one line, "" for an empty one. A code span
// takes all but three characters literally: a backtick ends it, and a pipe or a
// backslash before one ends the table's cell.
func code(s string) string {
	s = short(s, cellLimit)
	switch {
	case s == "":
		return ""
	case !strings.ContainsAny(s, "`|\\"):
		return "`" + s + "`"
	}
	return "<code>" + entities.Replace(s) + "</code>"
}

// entities stand for what would be markup, a link or a mention. A reference to a
// character is text wherever it stands (CommonMark 0.31, section 2.5).
var entities = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;", "`", "&#96;", `\`, "&#92;", "|", "&#124;",
	"*", "&#42;", "_", "&#95;", "[", "&#91;", "]", "&#93;", "~", "&#126;", "!", "&#33;", "$", "&#36;",
	":", "&#58;", "@", "&#64;", "#", "&#35;", "www.", "www&#46;",
)
