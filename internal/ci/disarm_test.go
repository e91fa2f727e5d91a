package ci

import (
	"bytes"
	"strings"
	"testing"
)

func TestDisarmed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"#7 0.1 ##vso[task.setvariable variable=A]b\n": "#7 0.1 \\u0023#vso[task.setvariable variable=A]b\n",
		"###[section] ##vso [x]\n":                     "#\\u0023#[section] ##vso [x]\n",
		"##vso[##vso[a]\n":                             "\\u0023#vso[\\u0023#vso[a]\n",
		"::a::b\n \t\u00a0::a::b\nx ::a::b\n":          "\\u003a:a::b\n \t\u00a0\\u003a:a::b\nx ::a::b\n",
		"#7 0.1 x\r::add-path::/tmp\r\n":               "#7 0.1 x\r\\u003a:add-path::/tmp\r\n",
		"a: b\n:\n#!/bin/sh ## title\n":                "a: b\n:\n#!/bin/sh ## title\n",
		"\xff\n::":                                     "\xff\n\\u003a:",
		"##":                                           "##",
		"\xc2":                                         "\xc2",
		"":                                             "",
	} {
		for size := 1; size <= max(1, len(text)); size++ { // split into pieces of every size
			var b bytes.Buffer
			d := Disarmed{To: &b}
			for rest := []byte(text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if n, err := d.Write(rest[:min(size, len(rest))]); n != min(size, len(rest)) || err != nil {
					t.Fatalf("%d bytes, %v", n, err)
				}
			}
			if err := d.Close(); err != nil || b.String() != want {
				t.Errorf("%q in pieces of %d is %q, want %q; %v", text, size, b.String(), want, err)
			}
		}
	}
}

// Progress appears at once: text that can no longer begin a command is passed on.
func TestDisarmedHoldsLittle(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	d := Disarmed{To: &b}
	if _, err := d.Write([]byte("#7 0.1 half a line ##v")); err != nil || b.String() != "#7 0.1 half a line " {
		t.Errorf("passed on %q, %v", b.String(), err)
	}
}

// A megabyte of text that may begin a command takes milliseconds. Work that grows with the square
// of the text would take minutes.
func TestDisarmedIsLinear(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("#", 1<<20)
	if got := Disarm(text); got != text {
		t.Errorf("%d bytes become %d", len(text), len(got))
	}
}
