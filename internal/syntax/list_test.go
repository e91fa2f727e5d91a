package syntax

import (
	"errors"
	"slices"
	"testing"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		kind       Kind
		want       []Item
	}{
		{"words", "a, b\nc,,\n", Words, []Item{{1, "a"}, {1, "b"}, {2, "c"}}},
		{"quoted word", "\"x,y\",z", Words, []Item{{1, "x,y"}, {1, "z"}}},
		{"comments and blank lines", "# one\n\n  a\r\n\t# two\nb # three\n# four", Words, []Item{{3, "a"}, {5, "b # three"}}},
		{"lines keep commas", "A=1,2\nB=3", Lines, []Item{{1, "A=1,2"}, {2, "B=3"}}},
		{"quoted lines", "\"k=one\n\n# two\nthree\"\nB=3", Lines, []Item{{1, "k=one\n\n# two\nthree"}, {5, "B=3"}}},
		{"doubled quote", `"A=say ""hi"""`, Lines, []Item{{1, `A=say "hi"`}}},
		{"quote inside", `A=say "hi", you`, Lines, []Item{{1, `A=say "hi", you`}}},
		{"text after quote", `A={"a":"x,y"}`, Lines, []Item{{1, `A={"a":"x,y"}`}}},
		{"JSON array", `A=["x","y"]`, Lines, []Item{{1, `A=["x","y"]`}}},
		{"quoted cell loses its quotes", `A=x,"y"`, Lines, []Item{{1, `A=x,y`}}},
		{"blank after quote", "\"A=1\" \n\"B=2\"\r\n", Lines, []Item{{1, "A=1"}, {2, "B=2"}}},
		{"entries are verbatim", "type=local,\"dest=a,b\"\n\n#x\n type=tar ", Entries, []Item{{1, `type=local,"dest=a,b"`}, {4, "type=tar"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Split(tt.kind, tt.text)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Split(%q) = %v, %v; want %v", tt.text, got, err, tt.want)
			}
		})
	}
}

func TestSplitUnbalanced(t *testing.T) {
	t.Parallel()
	got, err := Split(Lines, "A=1\n\n\"B=2\nC=3")
	var at UnbalancedError
	if !errors.As(err, &at) || at.Line != 3 {
		t.Errorf("error is %v, want unbalanced quotes at line 3", err)
	}
	if want := []Item{{1, "A=1"}}; !slices.Equal(got, want) {
		t.Errorf("items before it are %v, want %v", got, want)
	}
}

func TestParseCSV(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		want []Pair
		err  string
	}{
		{line: "type=local,dest=out", want: []Pair{{"type", "local"}, {"dest", "out"}}},
		{line: `TYPE=a, Ref=b=c`, want: []Pair{{"type", "a"}, {"ref", "b=c"}}},
		{line: `type=image,"name=a,b"`, want: []Pair{{"type", "image"}, {"name", "a,b"}}},
		{line: `"type=image,push=true"`, want: []Pair{{"type", "image"}, {"push", "true"}}},
		{line: "type=image,hunter2", err: `field 2 has no "="`},
		{line: "type=image,=hunter2", err: `field 2 has nothing before "="`},
		{line: `type=image,"name=hunter2`, err: "quotes are not balanced at column 13"},
		{line: `type=image,name="hunter2"`, err: "quotes are not balanced at column 17"},
		{line: "", err: "the entry is empty"},
	} {
		got, err := ParseCSV(tt.line)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("ParseCSV(%q): error is %v, want %s", tt.line, err, tt.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("ParseCSV(%q) = %v, %v; want %v", tt.line, got, err, tt.want)
		}
	}
}
