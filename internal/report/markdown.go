package report

import (
	"cmp"
	"fmt"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// SummaryLimit is the size in bytes of the job summary that GitHub accepts from one
// step (docs.github.com, "Workflow commands", step isolation and limits).
const SummaryLimit = 1 << 20

// Limits of the parts of a summary, other than the steps, in bytes. Together with the frame of
// the steps' table they stay below [SummaryLimit], however long names are.
const (
	partLimit  = 96 << 10
	errorLimit = 16 << 10
	cellLimit  = 300 // characters
)

// Markdown is the job summary in GitHub's dialect, of at most [SummaryLimit] bytes. What
// exceeds the limit is left out, and a line says how much. The summary begins with what
// readers ask first: whether the build succeeded, why it failed, and how much was cached.
// Names and messages are in code, so that they cannot become markup, links or mentions; only
// plain words are text.
func (r Report) Markdown() string {
	before := r.title() + r.errorBlock() + r.share() + r.facts() + r.targets() + r.missTable() + r.sourceTable() + r.exportTable() + r.mountTable() + r.warningList()
	after := "**Time** " + r.phases() + "\n" + r.timingTable()
	return before + r.stepTable(SummaryLimit-len(before)-len(after)) + after
}

func (r Report) title() string {
	switch {
	case r.Err != nil && r.Merged != nil:
		return "### ❌ warmlayer: the parts are not merged\n\n"
	case r.Err != nil:
		return "### ❌ warmlayer: the build failed\n\n"
	case r.Merged != nil:
		return "### ✅ warmlayer: one image of " + count(len(r.Merged), "part") + "\n\n"
	case len(r.Result.Steps) == 0:
		return "### ✅ warmlayer: built in " + duration(r.Seconds) + "\n\n"
	}
	return fmt.Sprintf("### ✅ warmlayer: %d of %d steps cached, built in %s\n\n", r.Result.Hits(), len(r.Result.Steps), duration(r.Seconds))
}

// The colours of the bar and of the steps' table, visible on light and dark pages, and the
// space that keeps a colour and its word on one line.
const (
	hitMark  = "🟩"
	ranMark  = "🟦"
	failMark = "🟥"
	noBreak  = "\u00a0"
)

// share is a bar with the share of cached steps, and the name of the first that was not cached.
func (r Report) share() string {
	n := len(r.Result.Steps)
	if n == 0 {
		return ""
	}
	text := fmt.Sprintf("%s **%d%%** cached", bar(r.Result.Hits(), n), 100*r.Result.Hits()/n)
	if miss := r.firstMiss(); miss != "" {
		text += ", first miss: " + code(miss)
	}
	if before := r.before(); before != "" {
		text += "; " + before
	}
	return text + "\n\n"
}

// bar shows a share in twenty cells, rounded down: a full bar means all.
func bar(part, whole int) string {
	full := 20 * part / whole
	return strings.Repeat(hitMark, full) + strings.Repeat(ranMark, 20-full)
}

// facts is a table of names and values. Its header is the first row, because GitHub shows an
// empty header as an empty line.
func (r Report) facts() string {
	var rows []string
	fact := func(name, value string) {
		if value != "" {
			rows = append(rows, row("**"+name+"**", value))
		}
	}
	var tags []string
	for _, tag := range r.tags() {
		tags = append(tags, code(tag)+" ")
	}
	fact("Image", strings.TrimSpace(fit(tags, partLimit, "and %d more")))
	fact("Digest", code(r.Result.Digest.String()))
	for _, d := range r.Merged {
		fact("Part", code(d.String()))
	}
	if r.Merged == nil {
		fact("Scope", cmp.Or(code(string(r.Plan.Write)), "none to write")+because(r.Plan.Why))
	}
	if r.Auto.Why != "" {
		fact("Cache", code(r.Auto.Cache)+", because "+words(r.Auto.Why))
	}
	fact("Builder", words(r.Builder))
	fact("State", code(r.State))
	fact("Retried", code(r.Result.Retried))
	if len(rows) == 0 {
		return ""
	}
	return rows[0] + "| :-- | :-- |\n" + strings.Join(rows[1:], "") + "\n"
}

// because is the reason as the end of a phrase: ", push to main"; "" without a reason.
func because(why string) string {
	if why == "" {
		return ""
	}
	return ", " + words(why)
}

// errorBlock shows what happened and what to do next, or else the failed step, and then the error
// and the end of its log, the latter two as pre elements: Markdown does not interpret text up to
// the end tag.
func (r Report) errorBlock() string {
	if r.Err == nil {
		return ""
	}
	var b strings.Builder
	f := r.explained()
	switch step := r.failed(); {
	case f.What != "":
		b.WriteString("**What happened:** " + code(located(f)) + "\n\n")
		if f.Next != "" {
			b.WriteString("**What to do next:** " + code(f.Next) + "\n\n")
		}
	case step != "":
		b.WriteString("Failed step: " + code(step))
		if f.Place.File != "" {
			b.WriteString(", " + code(place(f.Place)))
		}
		b.WriteString("\n\n")
	}
	return b.String() + pre(r.Err.Error()) + pre(tail(f.Log))
}

// pre shows a text in a pre element, as many lines as fit; "" for an empty text.
func pre(text string) string {
	var lines []string
	for text := range strings.Lines(strings.TrimSpace(text)) {
		lines = append(lines, html.EscapeString(syntax.Short(text, 10*cellLimit))+"\n")
	}
	if len(lines) == 0 {
		return ""
	}
	return "<pre>\n" + fit(lines, errorLimit, "and %d more lines\n") + "</pre>\n\n"
}

// sourceTable has a row for each source, without columns that are empty in all rows.
func (r Report) sourceTable() string {
	head := []string{"Read", "Scope", "Why", "Cache", "Size", "Steps used", "Reason"}
	var rows [][]string
	for _, s := range r.shown() {
		steps := ""
		if s.Used != nil {
			steps = strconv.Itoa(*s.Used)
		}
		rows = append(rows, []string{state(string(s.State)), code(s.Name), words(s.Why), code(s.Cache), holds(s), steps, words(reason(s))})
	}
	for _, optional := range []string{"Steps used", "Size"} {
		i := slices.Index(head, optional)
		if slices.ContainsFunc(rows, func(row []string) bool { return row[i] != "" }) {
			continue
		}
		head = slices.Delete(head, i, i+1)
		for k := range rows {
			rows[k] = slices.Delete(rows[k], i, i+1)
		}
	}
	return table(head, rows, partLimit)
}

func (r Report) exportTable() string {
	var rows [][]string
	for _, e := range r.Result.Exports {
		took := ""
		if e.Seconds > 0 {
			took = duration(e.Seconds)
		}
		rows = append(rows, []string{state(string(e.Outcome)), code(e.Name), took, code(e.Cache), words(join(", ", copied(e), kept(e), message(e.Err)))})
	}
	return table([]string{"Write", "Scope", "Time", "Cache", "Reason"}, rows, partLimit)
}

// state is the word for a state, with a warning sign when the cache failed.
func state(word string) string {
	if word == string(cacheplan.Failed) {
		return "⚠️" + noBreak + word
	}
	return word
}

// longSteps is the number of steps from which on their table is collapsed. It is always
// collapsed when every step was cached.
const longSteps = 40

// stepTable takes at most limit bytes.
func (r Report) stepTable(limit int) string {
	n := len(r.Result.Steps)
	if n == 0 {
		return ""
	}
	var rows [][]string
	for _, s := range r.Result.Steps {
		mark, result := ranMark, duration(s.Seconds)
		switch {
		case cancelled(s):
			result = "cancelled"
		case s.Error != "":
			mark, result = failMark, "failed after "+result
		case s.Cached:
			mark, result = hitMark, "cached"
		}
		rows = append(rows, []string{mark + noBreak + strings.ReplaceAll(result, " ", noBreak), code(s.Name)})
	}
	open := ""
	if r.Result.Hits() < n && n < longSteps {
		open = " open"
	}
	top := "<details" + open + "><summary>Steps</summary>\n\n"
	bottom := "</details>\n\n"
	return top + table([]string{"Result", "Step"}, rows, limit-len(top)-len(bottom)) + bottom
}

func (r Report) warningList() string {
	about := map[string]solve.Warning{} // the first of each text
	for _, w := range slices.Backward(r.Result.Warnings) {
		about[w.Text] = w
	}
	var items []string
	for _, text := range r.warnings() {
		item := "- ⚠️ " + code(text)
		for _, detail := range []string{place(about[text].Place), about[text].URL} {
			if detail != "" {
				item += " " + code(detail)
			}
		}
		items = append(items, item+"\n")
	}
	if len(items) == 0 {
		return ""
	}
	return fit(items, partLimit, "- and %d more\n") + "\n"
}

// table has a header and rows, in at most limit bytes; it is "" without rows. Each row has as
// many cells as the header. An empty last column is left out.
func table(header []string, rows [][]string, limit int) string {
	if len(rows) == 0 {
		return ""
	}
	if last := len(header) - 1; !slices.ContainsFunc(rows, func(cells []string) bool { return cells[last] != "" }) {
		header = header[:last]
	}
	var lines []string
	for _, cells := range rows {
		lines = append(lines, row(cells[:len(header)]...))
	}
	top := row(header...) + "|" + strings.Repeat(" :-- |", len(header)) + "\n"
	return top + fit(lines, limit-len(top)-1, "| and %d more |\n") + "\n"
}

func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// fit joins as many items as fit in limit bytes. When some do not fit, rest follows, a format
// for their number.
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

// words shows a phrase of plain words, such as "pull request 12", as text, and any other
// phrase as code.
func words(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return code(s)
}

var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z ,'/]{0,200}( [0-9]{1,6})?$`)

// code shows a name or message as code on one line; "" for an empty one. A code span takes all
// characters literally except three: a backtick ends it, and a pipe, with a backslash before
// it or not, can end the table's cell.
func code(s string) string {
	s = syntax.Short(s, cellLimit)
	switch {
	case s == "":
		return ""
	case !strings.ContainsAny(s, "`|\\"):
		return "`" + s + "`"
	}
	return "<code>" + entities.Replace(s) + "</code>"
}

// entities replace characters that could form markup, a link or a mention. A character
// reference is text in every position (CommonMark 0.31, section 2.5).
var entities = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;", "`", "&#96;", `\`, "&#92;", "|", "&#124;",
	"*", "&#42;", "_", "&#95;", "[", "&#91;", "]", "&#93;", "~", "&#126;", "!", "&#33;", "$", "&#36;",
	":", "&#58;", "@", "&#64;", "#", "&#35;", "www.", "www&#46;",
)
