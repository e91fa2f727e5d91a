// Package syntax knows how what a user writes is taken apart, and how to say what is wrong
// with it: lists, BuildKit's CSV, single values, problems with their hints.
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

// Problem is one thing wrong with an input. It never holds the value of a secret.
type Problem struct {
	Input string // the input's name; for one that is unknown or none of ours, the flag or variable
	Line  int    // line of the value, or item of a list, from 1; 0: the whole input
	What  string // what is wrong: lower case, no full stop
	Hint  string // what to do about it, or ""
}

// String is the problem as it is shown:
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

// Problems is everything that was found wrong. An empty one is no error: test its
// length before using it as an error.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Nearest returns the candidate that word is most likely a misspelling of, or "".
// At most a third of the longer word may differ; of equals the first one is taken.
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

// NearestHint is the hint for a word where one of the candidates is near, or "".
func NearestHint(word string, candidates []string) string {
	if near := Nearest(word, candidates); near != "" {
		return `did you mean "` + near + `"?`
	}
	return ""
}

// DidYouMean is the hint for a word that is none of the candidates.
func DidYouMean(word string, candidates []string) string {
	return cmp.Or(NearestHint(word, candidates), "use one of "+strings.Join(candidates, ", "))
}

// Quoted shows a value of the user's in a problem, unless it is long, or could be
// a URL with a password in it.
func Quoted(value string) string {
	unprintable := strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) })
	credentials := strings.Contains(value, ":") && strings.Contains(value, "@")
	if len(value) > 100 || unprintable || credentials {
		return "the value"
	}
	return `"` + value + `"`
}

// AttributeName shows the name of an attribute, unless it does not look like one:
// in a line that went wrong it may be a piece of a credential.
func AttributeName(key string) string {
	if !IsName(key) {
		return "an attribute"
	}
	return `attribute "` + key + `"`
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,23}$`)

// IsName tells whether text looks like the name of an input, a type or an attribute.
func IsName(text string) bool { return namePattern.MatchString(text) }
