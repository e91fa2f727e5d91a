package conformance

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// failed: what a build makes before a step fails is cached, so that the next one starts there, and takes nothing
// from the scope. Where BuildKit itself replaces the scope nothing is written.
func (s suite) failed(t *testing.T) {
	app, c := twoStages(t), s.h.open(t)
	file := filepath.Join(app, "Dockerfile")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fails := func(text, want string) {
		t.Helper()
		write(text + "RUN false\n")
		out := s.run(t, c, app, "main").Start(t)
		if out.Code != 1 || out.Report.Outcome(t) != want {
			t.Fatalf("exit code %d, exports %+v", out.Code, out.Report.Exports)
		}
	}
	write(string(good) + "RUN false\n")
	first := s.run(t, c, app, "main").Start(t)
	if first.Code != 1 {
		t.Fatalf("exit code %d:\n%s", first.Code, first.Text)
	}
	if s.h.remote && first.Report.Outcome(t) == "skipped" {
		return
	}
	if first.Report.Outcome(t) != "written" {
		t.Fatalf("exports %+v", first.Report.Exports)
	}
	write(string(good) + "RUN true\n")
	next := s.run(t, c, app, "main").Build(t)
	if next.Cached() != len(next.Steps)-1 || next.Steps[len(next.Steps)-1].Cached {
		t.Errorf("after a failed build %d of %d steps are cached", next.Cached(), len(next.Steps))
	}
	// The same again has nothing new, and another one keeps what is there.
	fails(string(good), "skipped")
	before := c.manifest(t, "b-main")
	fails(strings.Replace(string(good), "mkdir /www", "mkdir -p /www", 1), "written")
	if bytes.Equal(before.Raw, c.manifest(t, "b-main").Raw) {
		t.Error("a failed build with other steps wrote nothing")
	}
	write(string(good) + "RUN true\n")
	allCached(t, s.run(t, c, app, "main", "--cache-write", "never").Build(t))
}
