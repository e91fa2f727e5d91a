// Package syntax parses what a user writes, that is lists, BuildKit's CSV and single values, and
// describes problems with it, with a hint for each.
//
//	pairs, err := syntax.ParseCSV(`type=registry,ref=ghcr.io/o/app`) // {type registry} {ref ghcr.io/o/app}
//	_, problem := syntax.Check(syntax.Duration, nil, "5")            // "5" has no unit; write 5s for seconds
package syntax

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/agext/levenshtein"
)

// Problem describes one mistake in an input. It leaves the values of secrets out.
type Problem struct {
	Input string // name of the input; for an unknown input, or one of another program, the flag or the variable
	Line  int    // line of the value, or item of a list, from 1; 0: the whole input
	What  string // what is wrong, in lower case, without a full stop
	Hint  string // what to do about it; "": no hint
}

// String is the problem as users see it:
//
//	cache: line 2: attribute "mod" is unknown
//	hint: did you mean "mode"?
func (p Problem) String() string {
	var b strings.Builder
	if p.Input != "" {
		b.WriteString(p.Input + ": ")
	}
	if p.Line > 0 {
		b.WriteString("line " + strconv.Itoa(p.Line) + ": ")
	}
	b.WriteString(p.What)
	if p.Hint != "" {
		b.WriteString("\nhint: " + p.Hint)
	}
	return b.String()
}

// Problems are all problems of a run. Empty Problems in an error are a non-nil error, so test
// their length first.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Nearest returns the candidate of which word is most likely a misspelling, or "". Its edit
// distance is at most a third of the length of the longer one. Of several that are equally near
// the first is returned.
func Nearest(word string, candidates []string) string {
	if len(word) > 100 {
		return ""
	}
	word = strings.ToLower(word)
	best, bestDistance := "", 0
	for _, c := range candidates {
		d := levenshtein.Distance(word, strings.ToLower(c), nil)
		if 3*d <= max(len(word), len(c))+1 && (best == "" || d < bestDistance) {
			best, bestDistance = c, d
		}
	}
	return best
}

// NearestHint is the hint `did you mean "x"?` for the nearest candidate, or "" without one.
func NearestHint(word string, candidates []string) string {
	if near := Nearest(word, candidates); near != "" {
		return `did you mean "` + near + `"?`
	}
	return ""
}

// DidYouMean is the hint for a word that is not a candidate: the nearest one, or a list of all.
func DidYouMean(word string, candidates []string) string {
	return cmp.Or(NearestHint(word, candidates), "use one of "+strings.Join(candidates, ", "))
}

// Quoted returns a value for the text of a problem, in quotes. A value that is long, unprintable,
// or like a URL with a password is replaced by "the value".
func Quoted(value string) string {
	unprintable := strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) })
	credentials := strings.Contains(value, ":") && strings.Contains(value, "@")
	if len(value) > 100 || unprintable || credentials {
		return "the value"
	}
	return `"` + value + `"`
}

// AttributeName returns the name of an attribute for the text of a problem. Text that does not
// look like a name is replaced by "an attribute": in a malformed line it may be part of a
// credential.
func AttributeName(key string) string {
	if !IsName(key) {
		return "an attribute"
	}
	return `attribute "` + key + `"`
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,23}$`)

// IsName tells whether text looks like the name of an input, a type or an attribute: at most 24
// lower case letters, digits, dots, underscores and dashes, a letter first.
func IsName(text string) bool { return namePattern.MatchString(text) }
