package syntax

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/docker/go-units"
)

// Kind is the form of an input's value.
type Kind int

// The kinds; the zero one is Text.
const (
	Text     Kind = iota // one line
	Bool                 // true or false, spelled as YAML 1.2's core schema does
	Int                  // a whole number, 0 or more
	Duration             // as [ParseDuration] reads it, more than zero: 90s, 1h30m, 14d
	Size                 // bytes, as docker/go-units reads them: 512, 64m, 1.5GiB
	Words                // a list separated by commas or newlines
	Lines                // a list separated by newlines; quotes join lines
	Entries              // a list of BuildKit's CSV, one entry a line: type=local,dest=out
	Block                // text of several lines, which is a document of its own
)

// List tells whether an input of this kind holds several values.
func (k Kind) List() bool { return k == Words || k == Lines || k == Entries }

var truth = []string{"true", "True", "TRUE", "false", "False", "FALSE"}

// Check validates the text of a single value and returns its usual spelling: "true" for True,
// "7" for 07, "1024" for 1k. Choices are the values that are allowed for the kind Text; nil
// allows all. The problem has only What and Hint, and may be shown.
func Check(kind Kind, choices []string, text string) (string, *Problem) {
	switch kind {
	case Bool:
		if !slices.Contains(truth, text) {
			return "", &Problem{What: Quoted(text) + " is neither true nor false"}
		}
		return strings.ToLower(text), nil
	case Int:
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return "", &Problem{What: Quoted(text) + " is not a whole number of zero or more"}
		}
		return strconv.FormatUint(n, 10), nil
	case Duration:
		return checkDuration(text)
	case Size:
		n, err := units.RAMInBytes(text)
		if err != nil || n < 0 {
			return "", &Problem{What: Quoted(text) + " is not a size", Hint: "write it like 64m or 1g"}
		}
		return strconv.FormatInt(n, 10), nil
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "", &Problem{What: "the value has a line break or another control character"}
	}
	if choices != nil && !slices.Contains(choices, text) {
		return "", &Problem{
			What: Quoted(text) + " is none of " + strings.Join(choices, ", "),
			Hint: NearestHint(text, choices),
		}
	}
	return text, nil
}

func checkDuration(text string) (string, *Problem) {
	d, err := ParseDuration(text)
	switch {
	case err == nil && d > 0 && !strings.HasSuffix(text, "d"):
		return text, nil
	case err == nil && d > 0:
		return d.String(), nil
	case err == nil:
		return text, &Problem{What: Quoted(text) + " is not more than zero"}
	}
	if strings.Trim(text, "0123456789") == "" {
		return text, &Problem{What: Quoted(text) + " has no unit", Hint: "write " + text + "s for seconds"}
	}
	return text, &Problem{What: Quoted(text) + " is not a duration", Hint: "write it like 5s, 10m, 1h30m or 14d"}
}

// ParseDuration reads a duration as time.ParseDuration does, and whole days: 14d.
func ParseDuration(text string) (time.Duration, error) {
	days, ok := strings.CutSuffix(text, "d")
	if !ok {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	return time.Duration(n) * 24 * time.Hour, err
}

// IsTrue tells whether an attribute is true for BuildKit, which uses strconv.ParseBool: "1", "t",
// "true" and so on. For any other text IsTrue and IsFalse are both false.
func IsTrue(text string) bool { b, err := strconv.ParseBool(text); return err == nil && b }

// IsFalse tells whether an attribute is false for BuildKit; see [IsTrue]. It is false for "".
func IsFalse(text string) bool { b, err := strconv.ParseBool(text); return err == nil && !b }
