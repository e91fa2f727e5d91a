package inputs

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/docker/go-units"
)

// check validates the text of a value that is no list and returns its usual
// spelling: "true" for True, "7" for 07, "1024" for 1k. Its errors may be shown.
func (f Field) check(text string) (string, *Problem) {
	switch f.Kind {
	case Bool:
		if !slices.Contains(truth, text) {
			return "", &Problem{What: quoted(text) + " is neither true nor false"}
		}
		return strings.ToLower(text), nil
	case Int:
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return "", &Problem{What: quoted(text) + " is not a whole number"}
		}
		return strconv.FormatUint(n, 10), nil
	case Duration:
		return text, checkDuration(text)
	case Size:
		n, err := units.RAMInBytes(text)
		if err != nil || n < 0 {
			return "", &Problem{What: quoted(text) + " is not a size", Hint: "write it like 64m or 1g"}
		}
		return strconv.FormatInt(n, 10), nil
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "", &Problem{What: "the value has a line break or another control character"}
	}
	if f.Choices != nil && !slices.Contains(f.Choices, text) {
		return "", &Problem{
			What: quoted(text) + " is none of " + strings.Join(f.Choices, ", "),
			Hint: nearestHint(text, f.Choices),
		}
	}
	return text, nil
}

func checkDuration(text string) *Problem {
	d, err := time.ParseDuration(text)
	switch {
	case err == nil && d > 0:
		return nil
	case err == nil:
		return &Problem{What: quoted(text) + " is not more than zero"}
	}
	if strings.Trim(text, "0123456789") == "" {
		return &Problem{What: quoted(text) + " has no unit", Hint: "write " + text + "s for seconds"}
	}
	return &Problem{What: quoted(text) + " is not a duration", Hint: "write it like 5s, 10m or 1h30m"}
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
	d, _ := time.ParseDuration(p.value(name)) // checked
	return d
}

// list is the items of a list, or of its default.
func (p *parser) list(name string) []item {
	f := field(name)
	s, ok := p.settings[name]
	if !ok {
		s.text = f.Default
	}
	if s.items != nil {
		return s.items
	}
	items, err := split(f.Kind, s.text)
	var at errUnbalanced
	if errors.As(err, &at) {
		p.reportUnbalanced(name, at.line)
	}
	return items
}

func (p *parser) reportUnbalanced(name string, line int) {
	p.report(name, line, "quotes are not balanced", `close them, or write a quote inside quotes as ""`)
}

// IsTrue tells whether an attribute is true as BuildKit reads booleans: "1", "t", "true" and
// so on, as strconv.ParseBool has them. What is no boolean is neither true nor false.
func IsTrue(text string) bool { b, err := strconv.ParseBool(text); return err == nil && b }

// IsFalse tells whether an attribute is false. An empty one is not.
func IsFalse(text string) bool { b, err := strconv.ParseBool(text); return err == nil && !b }
