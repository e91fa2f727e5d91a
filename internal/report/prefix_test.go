package report_test

import (
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/report"
)

func TestPrefix(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := &report.Prefix{To: &out, Each: "arm64 | "}
	for _, text := range []string{"on", "e\ntwo\n\nthr", "ee\n", "", "last"} {
		if n, err := p.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
	if strings.Contains(out.String(), "last") {
		t.Errorf("an unfinished line was written: %q", out.String())
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if want := "arm64 | one\narm64 | two\narm64 | \narm64 | three\narm64 | last\n"; out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

// A line of any length, in pieces, is broken, and no byte of it is lost.
func TestPrefixBreaksLongLines(t *testing.T) {
	t.Parallel()
	const pieces, length = 3000, 100
	var out strings.Builder
	p := &report.Prefix{To: &out, Each: "| "}
	for range pieces {
		if _, err := p.Write([]byte(strings.Repeat("x", length))); err != nil {
			t.Fatal(err)
		}
	}
	if out.Len() == 0 {
		t.Error("the whole line is held")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "x"); n != pieces*length {
		t.Errorf("%d bytes of %d", n, pieces*length)
	}
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "| ") || len(line) > 64<<10+len("| \n") {
			t.Errorf("a line of %d bytes begins with %q", len(line), line[:2])
		}
	}
}
