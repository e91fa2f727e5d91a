package syntax

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/tonistiigi/go-csvvalue"
)

// In every list items are trimmed and not empty, and their lines never decrease. Lists without
// quotes and comments are those that a reader expects.
func FuzzSplit(f *testing.F) {
	f.Add("a,b\n\"c\nd\",#e\n#f\n", uint8(Words))
	f.Add("A=\"x\"\n\"B=\"\"y\"\"\"", uint8(Lines))
	f.Add("type=local,\"dest=a,b", uint8(Entries))
	f.Add("a\r\nb , c\n\n# d\n", uint8(Words))
	f.Fuzz(func(t *testing.T, text string, k uint8) {
		kind := Words + Kind(k)%3
		items, err := Split(kind, text)
		last := 1
		for _, it := range items {
			if it.Text == "" || strings.TrimSpace(it.Text) != it.Text {
				t.Errorf("item %q is empty or not trimmed", it.Text)
			}
			if it.Line < last || it.Line > strings.Count(text, "\n")+1 {
				t.Errorf("item at line %d, after line %d", it.Line, last)
			}
			last = it.Line
		}
		if strings.Contains(text, `"`) {
			return
		}
		var want []Item
		for n, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			words := []string{line}
			if kind == Words {
				words = strings.Split(line, ",")
			}
			for _, word := range words {
				if word = strings.TrimSpace(word); word != "" {
					want = append(want, Item{n + 1, word})
				}
			}
		}
		if err != nil || !slices.Equal(items, want) {
			t.Errorf("%q as kind %d: %+v, %v; want %+v", text, kind, items, err, want)
		}
	})
}

// An entry is what BuildKit reads: its own reader of CSV, and that of Go, find the same fields.
// Written again, it is the same entry. No error shows a part of it.
func FuzzParseCSV(f *testing.F) {
	for _, line := range []string{
		"type=image,name=a", `type=x,"ref=say ""hi"""`, `"type=x,ref=y"`, " Type = x,=y", `type=x,"a`, "", ",", "a=\"b", "a=b\r\n", "\"a=b\"c",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		pairs, err := ParseCSV(line)
		if err != nil {
			for word := range strings.FieldsFuncSeq(line, func(c rune) bool { return strings.ContainsRune("=,\" ", c) }) {
				if len(word) > 8 && strings.Contains(err.Error(), word) && !strings.Contains("quotes are not balanced at column nothing before", word) {
					t.Errorf("the error %q shows a part of %q", err, line)
				}
			}
			return
		}
		for _, p := range pairs {
			if p.Key == "" || p.Key != strings.ToLower(strings.TrimSpace(p.Key)) {
				t.Errorf("%q has the key %q", line, p.Key)
			}
		}
		if again, err := ParseCSV(FormatEntry(pairs)); err != nil || !slices.Equal(again, pairs) {
			t.Errorf("%q is written %q, and read %v, %v; want %v", line, FormatEntry(pairs), again, err, pairs)
		}
		if strings.ContainsAny(line, "\r\n") {
			return // Go reads records of several lines
		}
		ours, err := csvvalue.Fields(line, nil)
		r := csv.NewReader(strings.NewReader(line))
		if theirs, failed := r.Read(); err == nil && (failed != nil || !slices.Equal(ours, theirs)) {
			t.Errorf("%q has the fields %q, and in Go %q, %v", line, ours, theirs, failed)
		}
	})
}

// FuzzFormatCSV: any value survives in an entry.
func FuzzFormatCSV(f *testing.F) {
	f.Add("type", "image", "name", "a,b")
	f.Add("type", "x", "ref", `say "hi"`)
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string) {
		for _, key := range []string{key1, key2} {
			if key == "" || strings.ContainsAny(key, "=\r\n") || strings.ToLower(strings.TrimSpace(key)) != key {
				t.Skip("not a key")
			}
		}
		want := []Pair{{key1, value1}, {key2, value2}}
		got, err := ParseCSV(FormatEntry(want))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q became %v, %v; want %v", FormatEntry(want), got, err, want)
		}
	})
}

// FuzzTag: the form for requests names the same image, in whatever repository.
func FuzzTag(f *testing.F) {
	for _, text := range []string{"x", "localhost:5000/x:T", "[::1]:5000/a__b/c--d", "index.docker.io/x", "A.B/x", "localhost:5000"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		named, problem := ImageName(text)
		if problem != nil {
			return
		}
		tag, err := Tag(named, false)
		if err != nil {
			if !strings.HasPrefix(reference.Domain(named), "[") {
				t.Errorf("%q: %v", text, err)
			}
			return // no address of IPv6
		}
		again, err := reference.ParseNormalizedNamed(tag.Name())
		if err != nil || again.String() != reference.TagNameOnly(named).String() {
			t.Errorf("%q is asked for as %s, which is %v, %v", text, tag.Name(), again, err)
		}
	})
}

// FuzzLine: a text becomes one printable line, which stays as it is.
func FuzzLine(f *testing.F) {
	for _, text := range []string{"a\nb", " \x1b[31m\u202e", "\xff", "é\u00a0\t"} {
		f.Add(text, uint16(3))
	}
	f.Fuzz(func(t *testing.T, text string, n uint16) {
		line := Line(text)
		if strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\u202e' }) || Line(line) != line {
			t.Errorf("%q becomes %q", text, line)
		}
		if short := Short(text, int(n)+1); len([]rune(short)) > int(n)+1 {
			t.Errorf("%q cut to %d is %q", text, n+1, short)
		}
	})
}
