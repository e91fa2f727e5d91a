package inputs

import (
	"errors"
	"strconv"
	"time"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// check validates the text of a value that is no list and returns its usual spelling.
func (f Field) check(text string) (string, *syntax.Problem) {
	return syntax.Check(f.Kind, f.Choices, text)
}

// value is the text of an input that is no list, or its default, or "".
func (p *parser) value(name string) string {
	f := field(name)
	s, ok := p.settings[name]
	if !ok {
		return f.Default
	}
	text, problem := f.check(s.text)
	if problem != nil {
		p.report(name, 0, problem.What, problem.Hint)
		return f.Default
	}
	return text
}

func (p *parser) bool(name string) bool { return p.value(name) == "true" }

// optionalBool is nil where the input is unset.
func (p *parser) optionalBool(name string) *bool {
	text := p.value(name)
	if text == "" {
		return nil
	}
	b := text == "true"
	return &b
}

func (p *parser) int(name string) int {
	n, _ := strconv.Atoi(p.value(name)) // checked, or "" for 0
	return n
}

func (p *parser) size(name string) int64 {
	n, _ := strconv.ParseInt(p.value(name), 10, 64) // checked, or "" for 0
	return n
}

func (p *parser) duration(name string) time.Duration {
	d, _ := time.ParseDuration(p.value(name)) // checked, and in this form
	return d
}

// list is the items of a list, or those of its default.
func (p *parser) list(name string) []syntax.Item {
	f := field(name)
	s, ok := p.settings[name]
	if !ok {
		s.text = f.Default
	}
	if s.items != nil {
		return s.items
	}
	items, err := syntax.Split(f.Kind, s.text)
	var at syntax.UnbalancedError
	if errors.As(err, &at) {
		p.reportUnbalanced(name, at.Line)
	}
	return items
}

func (p *parser) reportUnbalanced(name string, line int) {
	p.report(name, line, "quotes are not balanced", `close them, or write a quote inside quotes as ""`)
}
