package cachespec

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// An attribute is one that a line may have, bound to a field of the line's config. Unless its
// options say otherwise, all inputs may have it, and its check holds in all of them.
type attribute struct {
	name  string
	check check
	set   func(string) // stores a text in the field

	in    Input // the inputs that may have it; 0: all
	named bool  // a name or a location: in cache-from and cache-to any text, as BuildKit judges it
	path  bool  // a path of this machine
}

// A check reports whether a text is valid, and describes valid texts: "true or false".
type check func(text string) (want string, ok bool)

// take stores a text in the field. It reports false, and what is wanted, where the text is
// not valid; the field then keeps its value.
func (a *attribute) take(text string, in Input) (want string, ok bool) {
	if want, ok = a.check(text); !ok && !(a.named && in != Scoped) {
		return want, false
	}
	a.set(text)
	return "", true
}

// only is the attribute of some inputs.
func (a attribute) only(in Input) attribute {
	a.in = in
	return a
}

// find is the attribute with this name that a line of the input may have, or nil.
func find(known []attribute, name string, in Input) *attribute {
	for i, a := range known {
		if a.name == name && (a.in == 0 || a.in&in != 0) {
			return &known[i]
		}
	}
	return nil
}

// place is an attribute with a name or a location.
func place(name string, field *string, c check) attribute {
	return attribute{name: name, check: c, set: func(text string) { *field = text }, named: true}
}

// directory is an attribute with a path on this machine.
func directory(name string, field *string) attribute {
	a := place(name, field, notEmpty)
	a.path = true
	return a
}

// text is an attribute whose text has a form that BuildKit reads.
func text(name string, field *string, c check) attribute {
	return attribute{name: name, check: c, set: func(text string) { *field = text }}
}

func boolean(name string, field *bool) attribute {
	return attribute{name: name, check: isBool, set: func(text string) { *field = syntax.IsTrue(text) }}
}

func count(name string, field *int) attribute {
	return attribute{name: name, check: isCount, set: func(text string) { *field, _ = strconv.Atoi(text) }}
}

func duration(name string, field *time.Duration, c check) attribute {
	return attribute{name: name, check: c, set: func(text string) { *field, _ = time.ParseDuration(text) }}
}

// oneOf and the checks below accept what BuildKit v0.34.2 accepts in the files that the
// configs name, and refuse what it silently reads as a default.
func oneOf(words ...string) check {
	return func(v string) (string, bool) {
		return "one of " + strings.Join(words, ", "), slices.Contains(words, v)
	}
}

func anything(string) (string, bool) { return "", true }

func notEmpty(v string) (string, bool) { return "a value", v != "" }

func isBool(v string) (string, bool) {
	_, err := strconv.ParseBool(v)
	return "true or false", err == nil
}

func isCount(v string) (string, bool) {
	n, err := strconv.Atoi(v)
	return "a whole number from 1", err == nil && n > 0
}

// isAge checks a duration in Go's form, from 0.
func isAge(v string) (string, bool) {
	age, err := time.ParseDuration(v)
	return "a time such as 24h or 90m", err == nil && age >= 0
}

// isTimeout checks a duration in Go's form that is more than 0.
func isTimeout(v string) (string, bool) {
	d, err := time.ParseDuration(v)
	return "a time such as 30s or 10m", err == nil && d > 0
}

func isURL(v string) (string, bool) {
	u, err := url.Parse(v)
	return "scheme and host, such as https://host/", err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// problems collects what is wrong with one line.
type problems struct {
	input string
	line  int
	kind  string // the line's type, with which the problems begin; "": they do not
	found []syntax.Problem
}

func (p *problems) add(hint, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	if p.kind != "" {
		what = "type=" + p.kind + ": " + what
	}
	p.found = append(p.found, syntax.Problem{Input: p.input, Line: p.line, What: what, Hint: hint})
}

// unknown reports an attribute that a line of the input may not have. Where hint is "" the
// known attributes are the hint.
func (p *problems) unknown(known []attribute, name string, in Input, hint string) {
	var names []string
	elsewhere := false
	for _, a := range known {
		if a.in == 0 || a.in&in != 0 {
			names = append(names, a.name)
		}
		elsewhere = elsewhere || a.name == name
	}
	switch {
	case hint != "":
	case elsewhere && in != Scoped:
		hint = "only lines of cache may have it: BuildKit itself does not know it for this type"
	case len(names) == 0:
		hint = "name the type to set it: type=registry,ref=…"
	case in == Scoped && slices.Contains([]string{"digest", "scope", "name"}, name):
		hint = "the scope is derived from the branch; put an entry that is used unchanged into cache-from or cache-to"
	default:
		hint = nearest(name, names)
	}
	p.add(hint, "%s is unknown", syntax.AttributeName(name))
}

func nearest(word string, known []string) string {
	if hint := syntax.NearestHint(word, known); hint != "" {
		return hint
	}
	return "known are " + strings.Join(known, ", ")
}

// shown is an attribute with its value, or without one that may be a credential.
func shown(name, value string) string {
	if value != "" && (isSecret(name) || syntax.Quoted(value) != `"`+value+`"`) {
		return "the value of " + name
	}
	return name + "=" + value
}
