package report

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"

	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// TestSummaryFits fills every part of the summary beyond its limit.
func TestSummaryFits(t *testing.T) {
	t.Parallel()
	worst := strings.Repeat("|&`\\", 1000)
	many := func(n int) Report {
		r := Report{Version: worst, Builder: worst, Err: errors.New(strings.Repeat(worst+"\n", n))}
		r.Plan.Why, r.Result.Retried = worst, worst
		r.Result.Metadata = map[string]string{"image.name": strings.Repeat(worst+",", n)}
		for i := range n {
			r.Result.Steps = append(r.Result.Steps, solve.Step{Name: fmt.Sprintf("[%d] %s", i, worst)})
			r.Result.Sources = append(r.Result.Sources, cacheplan.Source{Cache: worst, Name: worst, Why: worst, Err: errors.New(worst)})
			r.Result.Exports = append(r.Result.Exports, solve.Export{Cache: worst, Name: worst, Err: errors.New(worst)})
			r.Warnings = append(r.Warnings, fmt.Sprint(i, worst))
		}
		return r
	}
	for _, n := range []int{1, 100, 3000} {
		text := many(n).Markdown()
		if len(text) > SummaryLimit {
			t.Errorf("%d of each: %d bytes", n, len(text))
		}
		if n == 3000 && len(text) < SummaryLimit-4096 {
			t.Errorf("%d of each: %d bytes, steps that fit were left out", n, len(text))
		}
		if !strings.HasSuffix(text, "total 0.0s\n") {
			t.Errorf("%d of each: the end is cut off: %q", n, text[len(text)-50:])
		}
	}
}

func TestSummarySaysWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	const steps = 40000
	r := Report{}
	for i := range steps {
		r.Result.Steps = append(r.Result.Steps, solve.Step{Name: fmt.Sprintf("[%d/%d] RUN make", i+1, steps), Cached: true})
	}
	text := r.Markdown()
	rows := strings.Count(text, "RUN make")
	if want := fmt.Sprintf("| and %d more |\n", steps-rows); len(text) > SummaryLimit || rows < 20000 || !strings.Contains(text, want) {
		t.Errorf("%d bytes with %d rows, want a row %q", len(text), rows, want)
	}
}

func TestFit(t *testing.T) {
	t.Parallel()
	items := []string{"one\n", "two\n", "three\n"}
	for _, tt := range []struct {
		limit int
		want  string
	}{
		{100, "one\ntwo\nthree\n"}, {14, "one\ntwo\nthree\n"}, {13, "3 more\n"}, {0, "3 more\n"},
	} {
		if got := fit(items, tt.limit, "%d more\n"); got != tt.want {
			t.Errorf("limit %d: %q, want %q", tt.limit, got, tt.want)
		}
	}
	if got := fit([]string{strings.Repeat("a", 40), strings.Repeat("b", 40)}, 79, "%d more\n"); got != strings.Repeat("a", 40)+"1 more\n" {
		t.Errorf("cut to %q", got)
	}
}

// FuzzCode: no name ends the code span that it is in.
func FuzzCode(f *testing.F) {
	f.Add("[1/2] RUN make")
	f.Add(hostile)
	f.Add("a\\|b `c` ``")
	f.Fuzz(func(t *testing.T, name string) {
		got := code(name)
		inner, entities := strings.CutPrefix(got, "<code>")
		switch {
		case got == "":
			if syntax.Line(name) != "" {
				t.Errorf("%q is lost", name)
			}
		case entities:
			inner = strings.TrimSuffix(inner, "</code>")
			if strings.ContainsAny(inner, "`|\\<>*_[]@:\n\r") {
				t.Errorf("%q gives %q", name, got)
			}
		default:
			inner = got[1 : len(got)-1]
			if got[0] != '`' || got[len(got)-1] != '`' || strings.ContainsAny(inner, "`|\\\n\r") {
				t.Errorf("%q gives %q", name, got)
			}
		}
	})
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[float64]string{0: "0.0s", 0.06: "0.1s", 59.94: "59.9s", 59.96: "1m00s", 84.3: "1m24s", 612: "10m12s", 119.7: "2m00s"} {
		if got := duration(seconds); got != want {
			t.Errorf("%v: %s, want %s", seconds, got, want)
		}
	}
}

// TestSummaryIsMarkdown parses every summary with a parser of GitHub's Markdown: hostile names
// break no table and add no markup.
func TestSummaryIsMarkdown(t *testing.T) {
	t.Parallel()
	for name, r := range reports() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkMarkdown(t, r)
		})
	}
}

var dialect = goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser()

// checkMarkdown parses the summary of a report.
func checkMarkdown(t *testing.T, r Report) {
	t.Helper()
	source := []byte(r.Markdown())
	tables := 0
	err := ast.Walk(dialect.Parse(text.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.Link, *ast.AutoLink, *ast.Image, *extast.Strikethrough:
			t.Errorf("the summary has a %s", n.Kind())
		case *ast.RawHTML:
			if tag := string(n.Segments.Value(source)); tag != "<code>" && tag != "</code>" {
				t.Errorf("the summary has a %s", tag)
			}
		case *extast.Table:
			tables++
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	columns := 0
	for line := range strings.Lines(string(source)) {
		switch pipes := strings.Count(line, "|"); {
		case !strings.HasPrefix(line, "|"):
			columns = 0
		case columns == 0:
			columns = pipes
			tables -= 2 // the walk enters and leaves each table
		case pipes != columns:
			t.Errorf("%d pipes in a table with %d: %s", pipes, columns, line)
		}
	}
	if tables != 0 {
		t.Errorf("%d surplus tables", tables/2)
	}
}
