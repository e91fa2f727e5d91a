package inputs

import (
	"strconv"
	"time"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// value is the text of an input that is no list, or its default, or "".
func (p *parser) value(name string) string {
	text, problem := p.settings.Value(name)
	p.add(problem)
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
	items, problem := p.settings.Items(name)
	p.add(problem)
	return items
}

// add adds a problem; nil: there is none.
func (p *parser) add(problem *syntax.Problem) {
	if problem != nil {
		p.problems = append(p.problems, *problem)
	}
}
