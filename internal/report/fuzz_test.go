package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/cachemiss"
	"github.com/warmlayer/warmlayer/internal/ci"
)

// FuzzLog writes a secret within other text, in several forms, in pieces. What comes out has
// neither the secret nor a command of a runner, and is the same for all pieces.
func FuzzLog(f *testing.F) {
	f.Add("hunter2hunter2", "a ", " b\n", []byte{1})
	f.Add("hunter2", "\x1b[31m\x1b[K", "\x1b[m\x1b[K ::error::x\n::error::", []byte{3, 1, 2})
	f.Add("##vso[secret", "#", "[x]", []byte{2, 200})
	f.Add("line one\nline two is long enough to be", "section_start:", "\ny\r--- ", []byte{5})
	f.Add("p\x1b[Ka\u009bss", "\xc2", "\x1b]1339;x\a", []byte{1, 2})
	f.Fuzz(func(t *testing.T, secret, before, after string, cuts []byte) {
		if strings.ContainsAny(secret, "*\x1b\\") || strings.Contains(before+after, "***") {
			t.Skip("the secret is part of the mask, or of an escape")
		}
		r := NewRedactor([]string{secret})
		known := forms(secret)
		text := before + secret + after
		if cut := len(secret) / 2; cut > 0 {
			text += secret[:cut] + "\x1b[K" + secret[cut:] + "\n" + secret[:cut] + "\x1b[2K" + secret[cut:]
		}
		for _, form := range known {
			text += "\n" + before + form.text + after
		}
		var got strings.Builder
		w := r.Log(&got)
		for i, rest := 0, text; rest != ""; i++ {
			n := len(rest)
			if len(cuts) > 0 {
				n = min(n, int(cuts[i%len(cuts)])+1)
			}
			if _, err := io.WriteString(w, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if whole := r.Text(text); whole != got.String() {
			t.Errorf("in pieces %q, in one %q", got.String(), whole)
		}
		if again := ci.Disarm(got.String()); again != got.String() {
			t.Errorf("a command comes through in %q", got.String())
		}
		if r.String(got.String()) != got.String() && !strings.Contains(got.String(), `\u00`) {
			t.Errorf("a secret comes through in %q, of %q", got.String(), text)
		}
	})
}

// FuzzReport puts texts of any kind, and a secret, into all places of a report. The summary has no
// markup but its own, the log no command, the JSON is valid, and none has the secret.
func FuzzReport(f *testing.F) {
	f.Add("[1/2] RUN make", "no such file", "v1", uint8(0))
	f.Add(hostile, "::error::x\n##vso[a]", "\x1b[31m`|`", uint8(3))
	f.Add("<!-- [a](b) -->", "https://a.example/b?c @me #1", "\\`", uint8(7))
	names := []string{"warm", "cold", "fork", "several", "reduced", "unchanged", "withheld"}
	f.Fuzz(func(t *testing.T, name, problem, word string, kind uint8) {
		const secret = "s3cret-S3cret-s3cret"
		redactor := NewRedactor([]string{secret})
		r := reports()[names[int(kind)%len(names)]]
		name, problem = name+secret+name, problem+secret
		r.Err, r.Version, r.Plan.Facts.Branch = errors.New(problem), word, name
		r.Warnings = append(r.Warnings, problem, name)
		r = r.redacted(func(text string) string { return text })
		for i := range r.Result.Steps {
			r.Result.Steps[i].Name, r.Result.Steps[i].Error = name, problem
		}
		for i := range r.Result.Sources {
			r.Result.Sources[i].Cache, r.Result.Sources[i].Err = name, errors.New(problem)
		}
		for i := range r.Result.Exports {
			r.Result.Exports[i].Cache, r.Result.Exports[i].Err = name, errors.New(problem)
		}
		r.Result.Misses = []cachemiss.Reason{{Stage: word, Platform: name, Step: name, Text: problem}, {Step: word, Text: name, Scope: "b-main"}}
		r.Result.Metadata["image.name"], r.Result.Metadata[plainJSON] = name, `{"a":"`+secret+`"}`
		hidden := r.redacted(redactor.String)
		checkMarkdown(t, hidden)
		var text bytes.Buffer
		out := redactor.Log(&text)
		if err := errors.Join(r.Console(out), out.Close()); err != nil {
			t.Fatal(err)
		}
		if again := ci.Disarm(text.String()); again != text.String() {
			t.Errorf("the log has a command: %q", text.String())
		}
		document, err := hidden.JSON()
		if err != nil || !json.Valid(document) {
			t.Errorf("%s: %v", document, err)
		}
		for _, o := range hidden.Outputs() {
			text.WriteString(o.Value)
		}
		if all := text.String() + string(document) + hidden.Markdown(); strings.Contains(all, secret) {
			t.Errorf("the secret is shown in %q", all)
		}
	})
}

// FuzzPrefix: no byte is lost, each line has its prefix, and how the text is cut makes no
// difference.
func FuzzPrefix(f *testing.F) {
	f.Add("a\nb", uint8(0))
	f.Add(strings.Repeat("x", longestLine+3)+"\n\n", uint8(200))
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		var out strings.Builder
		p := &Prefix{To: &out, Each: "arm64 | "}
		for rest := text; rest != ""; {
			n := min(len(rest), int(size)+1)
			if _, err := io.WriteString(p, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		var back strings.Builder
		for line := range strings.Lines(out.String()) {
			content, ok := strings.CutPrefix(line, "arm64 | ")
			if !ok || !strings.HasSuffix(content, "\n") {
				t.Fatalf("the line %q", line)
			}
			back.WriteString(content)
		}
		if strings.ReplaceAll(back.String(), "\n", "") != strings.ReplaceAll(text, "\n", "") {
			t.Errorf("%d bytes become %d", len(text), back.Len())
		}
	})
}
