package syntax

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/tonistiigi/go-csvvalue"
)

// Item is one value of a list.
type Item struct {
	Line int // the line on which it begins, from 1
	Text string
}

// UnbalancedError is returned for a list with a quote that is never closed.
type UnbalancedError struct {
	Line int // the line of the quote, from 1
}

func (e UnbalancedError) Error() string { return "quotes are not balanced" }

// Split parses a list as docker/build-push-action does (getList in actions-toolkit's
// src/util.ts). Records are lines of CSV. Quotes around a whole cell are removed, and such a cell
// may hold newlines; any other quote is an ordinary character. Blank lines and lines that begin
// with # are dropped. Of the kind Entries, items are whole lines, for [ParseCSV].
//
// The error is an [UnbalancedError]; the items before it are returned with it.
func Split(kind Kind, text string) ([]Item, error) {
	if kind == Entries {
		return verbatim(text), nil
	}
	var items []Item
	s := scanner{rest: text, line: 1}
	for s.next() {
		at := s.line
		cells, err := s.record()
		if err != nil {
			return items, err
		}
		if kind == Lines {
			cells = []string{strings.Join(cells, ",")}
		}
		for _, c := range cells {
			if c = strings.TrimSpace(c); c != "" {
				items = append(items, Item{at, c})
			}
		}
	}
	return items, nil
}

// verbatim returns the lines of a text, trimmed, without blank lines and comments.
func verbatim(text string) []Item {
	var items []Item
	line := 0
	for s := range strings.SplitSeq(text, "\n") {
		line++
		if s = strings.TrimSpace(s); s != "" && s[0] != '#' {
			items = append(items, Item{line, s})
		}
	}
	return items
}

// scanner parses a text from its beginning to its end.
type scanner struct {
	rest string // what is left of the text
	line int    // of the beginning of rest, from 1
}

// next moves to the beginning of the next record and tells whether there is one.
func (s *scanner) next() bool {
	for {
		s.rest = strings.TrimLeftFunc(s.rest, isBlank)
		switch {
		case s.rest == "":
			return false
		case s.rest[0] == '\n':
			s.take(1)
		case s.rest[0] == '#':
			s.take(lineEnd(s.rest))
		default:
			return true
		}
	}
}

// isBlank tells whether c is white space within a line.
func isBlank(c rune) bool { return c != '\n' && unicode.IsSpace(c) }

// record takes the cells up to the end of the line. A quoted cell may continue on the next lines.
func (s *scanner) record() ([]string, error) {
	var cells []string
	for {
		c, err := s.cell()
		if err != nil {
			return nil, err
		}
		cells = append(cells, c)
		if !strings.HasPrefix(s.rest, ",") {
			return cells, nil
		}
		s.take(1)
	}
}

// cell takes one comma-separated part of a record, without the quotes around it.
func (s *scanner) cell() (string, error) {
	open := 0 // length of the quoted string, in which commas and newlines belong to the cell
	if strings.HasPrefix(s.rest, `"`) {
		open = quotedLen(s.rest)
		if open == 0 {
			return "", UnbalancedError{s.line}
		}
		after := strings.TrimLeftFunc(s.rest[open:], isBlank)
		if after == "" || after[0] == ',' || after[0] == '\n' {
			text := s.take(open)
			s.take(len(s.rest) - len(after))
			return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`), nil
		}
	}
	end := strings.IndexAny(s.rest[open:], ",\n")
	if end < 0 {
		return s.take(len(s.rest)), nil
	}
	return s.take(open + end), nil
}

// take removes n bytes from the rest and returns them.
func (s *scanner) take(n int) string {
	taken := s.rest[:n]
	s.rest = s.rest[n:]
	s.line += strings.Count(taken, "\n")
	return taken
}

// quotedLen is the length of the quoted string at the beginning of s, with its quotes, or 0 when
// the closing quote is missing. Inside it "" is a literal quote.
func quotedLen(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		if strings.HasPrefix(s[i+1:], `"`) {
			i++
			continue
		}
		return i + 1
	}
	return 0
}

// lineEnd is the length of the first line of s, without its newline.
func lineEnd(s string) int {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		return i
	}
	return len(s)
}

// Pair is a key and its value.
type Pair struct{ Key, Value string }

// ParseCSV parses one entry in BuildKit's CSV, such as
//
//	type=registry,ref=ghcr.io/owner/app,"name=a,b"
//
// Keys are trimmed and lowercased, as in buildx's util/buildflags. Errors name the field or the
// column, and leave the values out.
func ParseCSV(line string) ([]Pair, error) {
	fields, err := csvvalue.Fields(line, nil)
	if err != nil {
		return nil, CSVError(err)
	}
	if len(fields) == 1 && strings.HasPrefix(line, `"`) {
		if fields, err = csvvalue.Fields(fields[0], nil); err != nil {
			return nil, CSVError(err)
		}
	}
	pairs := make([]Pair, len(fields))
	for i, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok {
			return nil, fmt.Errorf(`field %d has no "="`, i+1)
		}
		if key == "" {
			return nil, fmt.Errorf(`field %d has nothing before "="`, i+1)
		}
		pairs[i] = Pair{key, value}
	}
	return pairs, nil
}

// CSVError replaces an error of go-csvvalue by one that leaves the value out.
func CSVError(err error) error {
	var at *csv.ParseError
	if errors.As(err, &at) {
		return fmt.Errorf("quotes are not balanced at column %d", at.Column)
	}
	return errors.New("the entry is empty")
}

// FormatCSV writes pairs in BuildKit's CSV.
func FormatCSV(pairs []Pair) string {
	fields := make([]string, len(pairs))
	for i, p := range pairs {
		f := p.Key + "=" + p.Value
		if strings.ContainsAny(f, ",\"\n") {
			f = `"` + strings.ReplaceAll(f, `"`, `""`) + `"`
		}
		fields[i] = f
	}
	return strings.Join(fields, ",")
}

// FormatEntry is the inverse of [ParseCSV], which takes a lone field in quotes for an entry in quotes.
func FormatEntry(pairs []Pair) string {
	entry := FormatCSV(pairs)
	if len(pairs) == 1 && strings.HasPrefix(entry, `"`) {
		return `"` + strings.ReplaceAll(entry, `"`, `""`) + `"`
	}
	return entry
}
