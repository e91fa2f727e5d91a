package report

import (
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// documentTiming is one part of the run in warmlayer.json.
type documentTiming struct {
	Name     string  `json:"name"`
	Start    float64 `json:"start"`
	Seconds  float64 `json:"seconds"`
	Critical bool    `json:"critical"`
}

// timings is the list of all parts for the JSON file.
func (r Report) timings() []documentTiming {
	all := []documentTiming{}
	for _, t := range r.Timings {
		all = append(all, documentTiming(t))
	}
	return all
}

// timingRows has a row for each part of the run, below a header. A star marks the critical path.
func (r Report) timingRows() [][]string {
	if !r.ShowTimings || len(r.Timings) == 0 {
		return nil
	}
	rows := [][]string{{"start", "took", "critical path *"}}
	for _, t := range r.Timings {
		name := syntax.Short(t.Name, longestName)
		if t.Critical {
			name = "* " + name
		} else {
			name = "  " + name
		}
		rows = append(rows, []string{duration(t.Start), duration(t.Seconds), name})
	}
	return rows
}

// timingTable is the same for the summary.
func (r Report) timingTable() string {
	if !r.ShowTimings || len(r.Timings) == 0 {
		return ""
	}
	var rows [][]string
	for _, t := range r.Timings {
		critical := ""
		if t.Critical {
			critical = "●"
		}
		rows = append(rows, []string{duration(t.Start), duration(t.Seconds), critical, code(t.Name)})
	}
	return "\n<details><summary>Timings</summary>\n\n" + table([]string{"Start", "Took", "Critical path", "Part"}, rows, partLimit) + "</details>\n"
}
