package report

import (
	"strings"

	"github.com/docker/go-units"

	"github.com/warmlayer/warmlayer/internal/cachemounts"
)

type documentMount struct {
	ID       string         `json:"id"`
	Restored *documentMoved `json:"restored,omitempty"`
	Saved    *documentMoved `json:"saved,omitempty"`
	Reason   string         `json:"reason"`
	Error    string         `json:"error"`
}

type documentMoved struct {
	Scope   string  `json:"scope"`
	Bytes   int64   `json:"bytes"`
	Files   int     `json:"files"`
	Seconds float64 `json:"seconds"`
}

// mounts is the list of cache mounts for the JSON file.
func (r Report) mounts() []documentMount {
	all := []documentMount{}
	for _, m := range r.Result.Mounts {
		all = append(all, documentMount{m.ID, documentMove(m.Restored), documentMove(m.Saved), m.Why, message(m.Err)})
	}
	return all
}

func documentMove(m cachemounts.Moved) *documentMoved {
	if m.Scope == "" {
		return nil
	}
	return &documentMoved{string(m.Scope), m.Bytes, m.Files, m.Seconds}
}

// mountRows has a row for each cache mount.
func (r Report) mountRows() [][]string {
	var rows [][]string
	for _, m := range r.Result.Mounts {
		rows = append(rows, cells(m.ID, moved("restored from", m.Restored), moved("saved to", m.Saved), unmoved(m)))
	}
	return rows
}

// mountTable shows the cache mounts in a summary.
func (r Report) mountTable() string {
	var rows [][]string
	for _, m := range r.Result.Mounts {
		rows = append(rows, []string{code(m.ID), code(moved("from", m.Restored)), code(moved("to", m.Saved)), code(unmoved(m))})
	}
	return table([]string{"Cache mount", "Restored", "Saved", "Reason"}, rows, partLimit)
}

// moved is a restore or a save: "saved to b-main (12 files, 3 MB, 0.4s)"; "" where there was none.
func moved(how string, m cachemounts.Moved) string {
	if m.Scope == "" {
		return ""
	}
	return how + " " + string(m.Scope) + " (" + count(m.Files, "file") + ", " + units.HumanSize(float64(m.Bytes)) + ", " + duration(m.Seconds) + ")"
}

// unmoved is why a mount was not restored or not saved.
func unmoved(m cachemounts.Outcome) string {
	return strings.TrimSpace(join(", ", m.Why, message(m.Err)))
}
