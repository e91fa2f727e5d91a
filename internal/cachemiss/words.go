package cachemiss

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The greatest lengths in characters: of a step's name, and of a text that changed.
const (
	longestName = 60
	longestText = 50
)

// short is a text in one line, cut to n characters.
func short(s string, n int) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return strings.TrimSpace(string([]rune(s)[:n-1])) + "…"
}

// instruction is the name of a step, short: without its options where these make it too long.
func instruction(name string) string {
	words := strings.Fields(name)
	if len(words) > 0 && utf8.RuneCountInString(name) > longestName {
		words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "--") })
	}
	return short(strings.Join(words, " "), longestName)
}

// changed shows what differs in two texts: "-go build +go build -v". Of long texts it shows the words that differ,
// with one before and one after them.
func changed(before, now string) string {
	a, b := strings.Fields(before), strings.Fields(now)
	if slices.Equal(a, b) {
		return "white space alone"
	}
	if utf8.RuneCountInString(before) <= longestText && utf8.RuneCountInString(now) <= longestText {
		return strings.TrimSpace(signed("-", a) + " " + signed("+", b))
	}
	from := 0
	for from < len(a) && from < len(b) && a[from] == b[from] {
		from++
	}
	end := 0
	for end < len(a)-from && end < len(b)-from && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	from, end = max(0, from-1), max(0, end-1)
	part := func(sign string, words []string) string {
		text := signed(sign, words[from:len(words)-end])
		if from > 0 {
			text = strings.Replace(text, sign, sign+"…", 1)
		}
		return text
	}
	return strings.TrimSpace(part("-", a) + " " + part("+", b))
}

// signed is words after a sign; "" without words.
func signed(sign string, words []string) string {
	if len(words) == 0 {
		return ""
	}
	return sign + short(strings.Join(words, " "), longestText)
}

// listed names the first two of some things, and counts the others: "go.sum, main.go, +1".
func listed(names []string) string {
	shown := names[:min(len(names), 2)]
	text := make([]string, len(shown))
	for i, n := range shown {
		text[i] = short(n, longestText)
	}
	if more := len(names) - len(shown); more > 0 {
		text = append(text, fmt.Sprintf("+%d", more))
	}
	return strings.Join(text, ", ")
}

// counted is a number with its noun: "1 file", "2 files".
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// quoted is a text that changed, or the word for none.
func quoted(text string) string { return cmp.Or(short(text, longestText), "none") }

// abbreviated is a digest with its first 12 digits.
func abbreviated(digest string) string {
	if len(digest) > 19 {
		return short(digest[:19]+"…", longestText)
	}
	return quoted(digest)
}
