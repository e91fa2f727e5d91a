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
