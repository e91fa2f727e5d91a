package timing

import (
	"cmp"
	"slices"
	"time"
)

// Row is a part in the table of a run.
type Row struct {
	Name     string
	Start    float64 // seconds since the run began
	Seconds  float64
	Critical bool // it is on the critical path
}

// The least time of a part with a row of its own. That of a step is more, since its name is long and
// the report lists it.
const (
	shortestPhase = time.Millisecond
	shortestStep  = 50 * time.Millisecond
)

// Table has the parts of a run that began at this time, in the order of their beginnings. Steps are
// left out unless they are on the critical path.
func Table(began time.Time, parts []Part) []Row {
	critical := path(parts)
	var rows []Row
	for i, p := range parts {
		took := p.End.Sub(p.Start)
		if took < shortestPhase || p.Kind == Step && (took < shortestStep || !critical[i]) {
			continue
		}
		rows = append(rows, Row{
			Name: p.Name, Start: p.Start.Sub(began).Seconds(), Seconds: took.Seconds(),
			Critical: critical[i] || p.Kind == Sum && holds(parts, critical, p),
		})
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.Start, b.Start) })
	return rows
}

// holds tells whether a step of the critical path is within a sum. One without length is not.
func holds(parts []Part, critical map[int]bool, sum Part) bool {
	for i := range critical {
		if p := parts[i]; p.Kind == Step && p.Start.Before(sum.End) && p.End.After(sum.Start) && p.End.After(p.Start) {
			return true
		}
	}
	return false
}

// slack is how much later than the beginning of a step the end of its input may be: BuildKit notes
// both times in different goroutines.
const slack = 10 * time.Millisecond

// path is the critical path, as indexes of parts. It begins with the part that ended last, and goes
// from each part to the one that ended last among those that it waited for.
func path(parts []Part) map[int]bool {
	on := map[int]bool{}
	last := latest(parts, func(int, Part) bool { return true })
	for last >= 0 {
		on[last] = true
		last = before(parts, on, parts[last])
	}
	return on
}

// before is the index of what a part waited for; -1: nothing. Where the parts that it names have not
// ended in time, or are unknown, it is any part that had ended when this one began.
func before(parts []Part, on map[int]bool, p Part) int {
	ended := func(i int, other Part, late time.Duration) bool {
		return !on[i] && !other.Start.After(p.Start) && !other.End.After(p.Start.Add(late))
	}
	named := latest(parts, func(i int, other Part) bool {
		return other.ID != "" && slices.Contains(p.After, other.ID) && ended(i, other, slack)
	})
	if named >= 0 {
		return named
	}
	return latest(parts, func(i int, other Part) bool { return ended(i, other, 0) })
}

// latest is the index of the part that ended last among some, without sums; -1: there is none. Of
// several that ended at once it is the longest.
func latest(parts []Part, among func(int, Part) bool) int {
	found := -1
	for i, p := range parts {
		if p.Kind == Sum || !among(i, p) {
			continue
		}
		if found < 0 || p.End.After(parts[found].End) || p.End.Equal(parts[found].End) && p.Start.Before(parts[found].Start) {
			found = i
		}
	}
	return found
}
