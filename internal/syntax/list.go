package syntax

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
)

// Item is one value of a list.
type Item struct {
	Line int // where it begins, from 1
	Text string
}

// UnbalancedError is a quote that is never closed, in a list.
type UnbalancedError struct{ Line int }

func (e UnbalancedError) Error() string { return "quotes are not balanced" }

// Split reads a list as docker/build-push-action does (getList in actions-toolkit's
// src/util.ts): records are lines of CSV, a quote that is not around a whole cell
// stands for itself, and quoted cells may hold newlines. Blank lines and lines
// that begin with # are dropped. Entries are kept verbatim, for [ParseCSV].
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

type scanner struct {
	rest string
	line int
}

// next moves to the beginning of the next record and tells whether there is one.
func (s *scanner) next() bool {
	for {
		s.rest = strings.TrimLeft(s.rest, " \t\r")
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

// record takes the cells up to the end of the line or, in quotes, of a later one.
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

// cell takes one comma-separated part of a record, and its quotes off.
func (s *scanner) cell() (string, error) {
	open := 0 // bytes that belong to the cell whatever they are
	if strings.HasPrefix(s.rest, `"`) {
		open = quotedLen(s.rest)
		if open == 0 {
			return "", UnbalancedError{s.line}
		}
		after := strings.TrimLeft(s.rest[open:], " \t\r")
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

// take consumes n bytes.
func (s *scanner) take(n int) string {
	taken := s.rest[:n]
	s.rest = s.rest[n:]
	s.line += strings.Count(taken, "\n")
	return taken
}

// quotedLen is the length of the quoted string that s begins with, quotes
// included and "" inside it standing for one, or 0 when it is not closed.
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

func lineEnd(s string) int {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		return i
	}
	return len(s)
}

// Pair is a key and its value.
type Pair struct{ Key, Value string }

// ParseCSV reads one entry in BuildKit's CSV, such as
//
//	type=registry,ref=ghcr.io/owner/app,"name=a,b"
//
// Keys are trimmed and in lower case, as in buildx's util/buildflags. Errors tell
// the place and never the value.
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

// CSVError is an error of go-csvvalue without any part of the value.
func CSVError(err error) error {
	var at *csv.ParseError
	if errors.As(err, &at) {
		return fmt.Errorf("quotes are not balanced at column %d", at.Column)
	}
	return errors.New("the entry is empty")
}

// FormatCSV is the inverse of [ParseCSV].
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
