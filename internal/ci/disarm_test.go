package ci

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDisarmed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"#7 0.1 ##vso[task.setvariable variable=A]b\n": "#7 0.1 ##vso\\u005btask.setvariable variable=A]b\n",
		"###[section] ##vso [x]\n":                     "###\\u005bsection] ##vso [x]\n",
		"##vso[##vso[a]\n":                             "##vso\\u005b##vso\\u005ba]\n",
		"##vs#o[ ##vso##[ ##[[\n":                      "##vs#o[ ##vso##\\u005b ##\\u005b[\n",
		"x ##teamcity[buildStatus status='OK']":        "x ##teamcity\\u005bbuildStatus status='OK']",
		"#\n#[x] #[y]":                                 "#\n#[x] #[y]",
		"::a::b\n \t\u00a0\u3000::a::b\nx ::a::b\n":    ":\\u003aa::b\n \t\u00a0\u3000:\\u003aa::b\nx ::a::b\n",
		"#7 0.1 x\r::add-path::/tmp\r\n":               "#7 0.1 x\r:\\u003aadd-path::/tmp\r\n",
		"a: b\n:\n: :\n#!/bin/sh ## title\n":           "a: b\n:\n: :\n#!/bin/sh ## title\n",
		"\x9b\u009b \xe3\x80\u009b":                    "\x9b\\u009b \xe3\x80\\u009b",
		"\xff\n::":                                     "\xff\n:\\u003a",
		"\xe3\x80::":                                   "\xe3\x80::",
		"##":                                           "##",
		"\xc2":                                         "\xc2",
		"":                                             "",
		// GitLab and Travis
		"\x1b[0Ksection_start:1:x[collapsed=true]\r\x1b[0KTitle\n": "section_start\\u003a1:x[collapsed=true]\rTitle\n",
		"section_end:1:x\r\x1b[0K section_:":                       "section_end\\u003a1:x\r section_:",
		"travis_fold:start:x\r travis_time:start:1":                "travis_fold\\u003astart:x\r travis_time\\u003astart:1",
		// Buildkite
		"--- a\n  +++ b\n~~~\tc\n^^^ +++\n---d\n---- e\n-- f\nx --- g": "---\\u0020a\n  +++\\u0020b\n~~~\\u0009c\n^^^\\u0020+++\n---d\n---- e\n-- f\nx --- g",
		"\x1b]1339;url=https://evil.example;content=x\a":               `\u001b]1339;url=https://evil.example;content=x\u0007`,
		"\x1b_bk;t=1\a\x1bP1\x1b\\":                                    `\u001b_bk;t=1\u0007\u001bP1\u001b\`,
		// Terminals
		"\x1b[1;31mred\x1b[0m\x1b[m":  "\x1b[1;31mred\x1b[0m\x1b[m",
		"\x1b[01;31m\x1b[Kgrep\x1b[m": "\x1b[01;31mgrep\x1b[m",
		"\x1b[8mha:////x\x1b[0m":      "\\u001b[8mha:////x\x1b[0m",
		"\x1b[2J\x1b[1A\x1b[?25l":     `\u001b[2J\u001b[1A\u001b[?25l`,
		"\x1b\x1b[31m\x1b":            "\\u001b\x1b[31m\\u001b",
		"\u009b31m\u009d\u0085\x00\b": `\u009b31m\u009d\u0085\u0000\u0008`,
		"\x7f\t|":                     "\\u007f\t|",
		"é ü ✓ 日本":                    "é ü ✓ 日本",
		// What is left out or passed joins nothing.
		"#\x1b[K#v\x1b[0mso[x] \x1b[31m::a": "##v\x1b[0mso\\u005bx] \x1b[31m::a",
		"\x1b[31m::a":                       "\x1b[31m:\\u003aa",
		"\x1b[1" + strings.Repeat(";1", 60): "\\u001b[1" + strings.Repeat(";1", 60),
	} {
		for size := 1; size <= max(1, len(text)); size++ { // in pieces of every size
			var b bytes.Buffer
			d := Disarmed{To: &b}
			for rest := []byte(text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if n, err := d.Write(rest[:min(size, len(rest))]); n != min(size, len(rest)) || err != nil {
					t.Fatalf("%d bytes, %v", n, err)
				}
			}
			if err := d.Close(); err != nil || b.String() != want {
				t.Fatalf("%q in pieces of %d is %q, want %q; %v", text, size, b.String(), want, err)
			}
		}
	}
}

// Progress stays live: only the beginning of a control sequence is held back.
func TestDisarmedHoldsLittle(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	d := Disarmed{To: &b}
	if _, err := d.Write([]byte("#7 0.1 half a line ##vso\x1b[1;")); err != nil || b.String() != "#7 0.1 half a line ##vso" {
		t.Errorf("passed on %q, %v", b.String(), err)
	}
}

// Of a megabyte that could begin commands only a few bytes are ever held, and each byte is taken
// once: what is held is all that a later write looks at again.
func TestDisarmedIsLinear(t *testing.T) {
	t.Parallel()
	for _, begin := range []string{"#", ":", "\x1b[1;", "\x1b", "-", "\xc2", "section_", "##vso"} {
		var b bytes.Buffer
		d := Disarmed{To: &b}
		text := strings.Repeat(begin, 1<<20/len(begin))
		for from := 0; from < len(text); from += 1000 {
			if _, err := io.WriteString(&d, text[from:min(len(text), from+1000)]); err != nil {
				t.Fatal(err)
			}
			if len(d.held) > longestSequence {
				t.Fatalf("%q: %d bytes are held", begin, len(d.held))
			}
		}
		if err := d.Close(); err != nil || b.Len() < len(text) {
			t.Errorf("%q: %d bytes become %d; %v", begin, len(text), b.Len(), err)
		}
	}
}

// byteByByte is Disarm without its look for bytes that are plain, but for parts of characters in a line.
func byteByByte(text string) string {
	var d Disarmed
	for i := range len(text) {
		if c := text[i]; c >= utf8.RuneSelf && c != 0xc2 && d.inLine && len(d.held) == 0 {
			d.out, d.hashes = append(d.out, c), 0
			continue
		}
		d.take(text[i])
	}
	d.release()
	return string(d.out)
}

// FuzzDisarmed: however a text is cut, the same comes out, without a command and with no control
// character but those that may pass.
func FuzzDisarmed(f *testing.F) {
	for _, text := range []string{
		"##vso[a]", "::add-mask::x\r\n ::y", "\x1b[0Ksection_start:1:x\r\x1b[0K", "--- x\n^^^ +++", "\x1b]1339;url=x\a",
		"#\x1b[K#[x", "\u009b\u00a0::", "##teamcity[x", "travis_fold:", "\xc2\xe3\x80\x80::",
	} {
		f.Add(text, uint8(3))
	}
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		whole := Disarm(text)
		var b strings.Builder
		d := Disarmed{To: &b}
		for rest := text; rest != ""; {
			n := min(len(rest), int(size)+1)
			if _, err := io.WriteString(&d, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := d.Close(); err != nil || b.String() != whole {
			t.Errorf("in pieces %q, in one %q; %v", b.String(), whole, err)
		}
		if slow := byteByByte(text); slow != whole {
			t.Errorf("byte by byte %q, in one %q", slow, whole)
		}
		if again := Disarm(whole); again != whole {
			t.Errorf("%q becomes %q, and that %q", text, whole, again)
		}
		for _, begin := range []string{"##[", "##vso[", "##teamcity[", "section_start:", "section_end:", "travis_fold:", "\x1b]", "\x1b_", "\x1b[8m", "\a", "\b", "\u009b"} {
			if strings.Contains(whole, begin) {
				t.Errorf("%q comes through in %q", begin, whole)
			}
		}
		for line := range strings.FieldsFuncSeq(whole, func(c rune) bool { return c == '\n' || c == '\r' }) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "::") || strings.HasPrefix(line, "--- ") {
				t.Errorf("a line begins with a command in %q", whole)
			}
		}
	})
}

// BenchmarkDisarmed passes lines of progress on, and a long line of what could begin a command.
func BenchmarkDisarmed(b *testing.B) {
	for name, text := range map[string]string{
		"lines":  "#12 4.217 Get:7 http://packages.example/debian stable/main amd64 libfoo-dev amd64 1.2.3-1 [123 kB]\n",
		"hashes": strings.Repeat("#", 1<<10),
		"colons": strings.Repeat(":", 1<<10),
	} {
		b.Run(name, func(b *testing.B) {
			d := Disarmed{To: io.Discard}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				fmt.Fprint(&d, text)
			}
		})
	}
}
