package report

import (
	"encoding/json"
	"strings"

	"github.com/warmlayer/warmlayer/internal/cachemiss"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

type documentMiss struct {
	Stage    string `json:"stage"`
	Platform string `json:"platform"`
	Step     string `json:"step"`
	Reason   string `json:"reason"`
	Scope    string `json:"scope"`
}

// misses is the list of reasons for the JSON file.
func (r Report) misses() []documentMiss {
	all := []documentMiss{}
	for _, m := range r.Result.Misses {
		all = append(all, documentMiss{m.Stage, m.Platform, m.Step, m.Text, m.Scope})
	}
	return all
}

// missReason is why the first step that was not cached was not: "COPY . .: 1 file changed: main.go"; "" for none.
func (r Report) missReason() string {
	if len(r.Result.Misses) == 0 {
		return ""
	}
	return syntax.Line(r.Result.Misses[0].String())
}

// missRows has a row for each stage with a step that was not cached.
func (r Report) missRows() [][]string {
	var rows [][]string
	for _, m := range r.Result.Misses {
		rows = append(rows, cells(r.missed(m)))
	}
	return rows
}

// missed is a sentence with the stage, and with the scope where that is not the first that is read: "[build] COPY . .: 1 file
// changed: main.go (compared with b-main)".
func (r Report) missed(m cachemiss.Reason) string {
	text := m.String()
	if in := strings.TrimSpace(m.Platform + " " + m.Stage); in != "" {
		text = "[" + in + "] " + text
	}
	if m.Scope != "" && (len(r.Plan.Read) == 0 || m.Scope != string(r.Plan.Read[0].Name)) {
		text += " (compared with " + m.Scope + ")"
	}
	return text
}

// missTable shows the reasons in a summary.
func (r Report) missTable() string {
	var rows [][]string
	for _, m := range r.Result.Misses {
		rows = append(rows, []string{code(r.missed(m))})
	}
	return table([]string{"Why steps ran"}, rows, partLimit)
}

// Why is the answer to "warmlayer why": a line for each reason, or JSON with the lists misses and sources of
// warmlayer.json.
func (r Report) Why(asJSON bool, redact func(string) string) (string, error) {
	r = r.redacted(redact)
	var b strings.Builder
	if asJSON {
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		err := e.Encode(map[string]any{"misses": r.misses(), "sources": r.sources()})
		return b.String(), err
	}
	for _, m := range r.Result.Misses {
		b.WriteString(syntax.Short(r.missed(m), longestCell) + "\n")
	}
	if len(r.Result.Misses) == 0 {
		b.WriteString("every step is as in the builds that the scopes remember\n")
	}
	for _, s := range r.shown() {
		if s.Faulty() {
			b.WriteString(syntax.Short("warning: "+s.Name+" could not be read: "+reason(s), longestCell) + "\n")
		}
	}
	return b.String(), nil
}
