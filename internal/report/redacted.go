package report

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachemiss"
	"github.com/warmlayer/warmlayer/internal/cacheplan"
	"github.com/warmlayer/warmlayer/internal/solve"
	"github.com/warmlayer/warmlayer/internal/timing"
)

// redacted is the report with its texts redacted. Texts are redacted before they are encoded:
// a secret with a quote in it looks different in JSON, and the secret "cached" must not change
// the schema. Digests and names of scopes are kept: they consist of hashes and public names,
// and later steps depend on them.
func (r Report) redacted(redact func(string) string) Report {
	hide := func(texts ...*string) {
		for _, t := range texts {
			*t = redact(*t)
		}
	}
	hideError := func(err error) error {
		var withheld backends.Withheld
		switch {
		case err == nil:
			return nil
		case errors.As(err, &withheld): // reason shows this type of error for absent sources
			return backends.Withheld(redact(string(withheld)))
		}
		return errors.New(redact(err.Error()))
	}
	hide(&r.Builder, &r.State, &r.Plan.Why, &r.Result.Retried)
	r.Networks = each(r.Networks, func(n *Network) { hide(&n.Builder, &n.Reason) })
	r.Err = hideError(r.Err)
	f := &r.Plan.Facts
	hide(&f.Event, &f.Branch, &f.Base, &f.Default, &f.Tag, &f.Untrusted, &f.Repo, &f.URL)
	for _, texts := range []*[]string{&r.Warnings, &r.Plan.Warnings} {
		*texts = each(*texts, func(t *string) { hide(t) })
	}
	r.Result.Warnings = each(r.Result.Warnings, func(w *solve.Warning) { hide(&w.Text, &w.Detail, &w.URL, &w.Place.File) })
	if r.Result.Failure != nil {
		f := *r.Result.Failure
		hide(&f.What, &f.Next, &f.Place.File, &f.Step, &f.Log)
		r.Result.Failure = &f
	}
	r.Timings = each(r.Timings, func(t *timing.Row) { hide(&t.Name) })
	r.Result.Steps = each(r.Result.Steps, func(s *solve.Step) { hide(&s.Name, &s.Error) })
	r.Result.Sources = each(r.Result.Sources, func(s *cacheplan.Source) { hide(&s.Cache); s.Err = hideError(s.Err) })
	r.Result.Exports = each(r.Result.Exports, func(e *solve.Export) { hide(&e.Cache); e.Err = hideError(e.Err) })
	r.Result.Misses = each(r.Result.Misses, func(m *cachemiss.Reason) { hide(&m.Stage, &m.Platform, &m.Step, &m.Text) })
	r.Result.Metadata = hideAnswer(r.Result.Metadata, redact)
	r.Result.Images = each(r.Result.Images, func(i *solve.Image) { i.Metadata = hideAnswer(i.Metadata, redact) })
	return r
}

// hideAnswer redacts BuildKit's answer.
func hideAnswer(metadata map[string]string, redact func(string) string) map[string]string {
	hidden := maps.Clone(metadata)
	for key, value := range hidden {
		hidden[key] = hideMetadata(key, value, redact)
	}
	return hidden
}

// each is a copy of the items, with change applied to each.
func each[T any](items []T, change func(*T)) []T {
	items = slices.Clone(items)
	for i := range items {
		change(&items[i])
	}
	return items
}

// hideMetadata redacts one value of BuildKit's answer, and keeps its encoding.
func hideMetadata(key, value string, redact func(string) string) string {
	text, ok := decoded(key, value).(json.RawMessage)
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if !ok || d.Decode(&v) != nil {
		return redact(value)
	}
	hidden := compact(hideStrings(v, redact))
	if key == plainJSON {
		return hidden
	}
	return base64.StdEncoding.EncodeToString([]byte(hidden))
}

// hideStrings redacts all strings of a JSON value except keys.
func hideStrings(v any, redact func(string) string) any {
	switch v := v.(type) {
	case string:
		return redact(v)
	case []any:
		for i := range v {
			v[i] = hideStrings(v[i], redact)
		}
	case map[string]any:
		for key := range v {
			v[key] = hideStrings(v[key], redact)
		}
	}
	return v
}
