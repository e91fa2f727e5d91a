package timing

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at is a part from one second of a run to another.
func at(name string, kind Kind, from, to float64) Part {
	moment := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	return Part{Name: name, Kind: kind, ID: name, Start: moment(from), End: moment(to)}
}

// after is a part that waits for others.
func (p Part) after(ids ...string) Part {
	p.After = ids
	return p
}

// critical are the names of the rows on the critical path.
func critical(rows []Row) string {
	var names []string
	for _, r := range rows {
		if r.Critical {
			names = append(names, r.Name)
		}
	}
	return strings.Join(names, " > ")
}

func TestCriticalPath(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		parts []Part
		want  string
	}{
		"nothing": {nil, ""},
		"the slower of two": {[]Part{
			at("start builder", Phase, 0, 0.6), at("read caches", Phase, 0, 0.9), at("solve", Phase, 0.9, 2),
		}, "read caches > solve"},
		"inputs come before what ended later": {[]Part{
			at("base", Step, 0, 1), at("deps", Step, 1, 3).after("base"), at("docs", Step, 1, 3.5).after("base"),
			at("link", Step, 3.6, 5).after("deps"), at("build", Sum, 0, 5), at("push", Phase, 5, 6),
		}, "base > build > deps > link > push"},
		"beginnings at nearly one moment": {[]Part{
			at("read", Phase, 0, 0.002), at("start builder", Phase, 0.001, 0.6),
		}, "start builder"},
		"an input ends as late as its step begins": {[]Part{
			at("base", Step, 0, 1.005), at("other", Step, 0, 0.9), at("make", Step, 1, 2).after("base"),
		}, "base > make"},
		"an input that is not known": {[]Part{
			at("load", Phase, 0, 1), at("make", Step, 1, 2).after("unknown"),
		}, "load > make"},
		"an export that outlasts the push": {[]Part{
			at("make", Step, 0, 2), at("build", Sum, 0, 2), at("push", Phase, 2, 3), at("export", Phase, 2, 4),
		}, "make > build > export"},
		"a build in which nothing was waited for": {[]Part{
			at("start", Phase, 0, 1), at("make", Step, 1, 1), at("build", Sum, 1, 1.2), at("export", Phase, 1.2, 2),
		}, "start > export"},
		"parts at one moment": {[]Part{
			at("a", Phase, 1, 1), at("b", Phase, 1, 1), at("c", Phase, 0, 1),
		}, "c"},
	} {
		if got := critical(Table(began, c.parts)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// A table has steps only where the run waited for them, and no part that took no time.
func TestTable(t *testing.T) {
	t.Parallel()
	rows := Table(began, []Part{
		at("push", Phase, 4, 5), at("make", Step, 1, 4).after("short"), at("short", Step, 0.97, 1), at("lint", Step, 1, 2),
		at("load", Phase, 0.5, 0.9), at("nothing", Phase, 2, 2), at("build", Sum, 0.5, 4),
	})
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%s %.1f+%.1f %t", r.Name, r.Start, r.Seconds, r.Critical))
	}
	want := "load 0.5+0.4 true, build 0.5+3.5 true, make 1.0+3.0 true, push 4.0+1.0 true"
	if text := strings.Join(got, ", "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

// The parts of an attempt that failed are told apart from those of the next one, which has the same
// steps.
func TestFormer(t *testing.T) {
	t.Parallel()
	var log Log
	log.Add(at("base", Step, 0, 1), at("make", Step, 1, 2).after("base"))
	log.Former("first ")
	log.Add(at("make", Step, 3, 4).after("base"))
	log.Former("second ")
	log.Start("push")()
	var names []string
	for _, p := range log.Parts() {
		names = append(names, strings.Join(append([]string{p.Name, p.ID}, p.After...), "|"))
	}
	want := "first base|first base, first make|first make|first base, second make|second make|second base, push|"
	if got := strings.Join(names, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
