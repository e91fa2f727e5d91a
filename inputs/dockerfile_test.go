package inputs

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// fromInput parses a build whose Dockerfile comes from standard input.
func fromInput(t *testing.T, stdin io.Reader, args ...string) (Values, syntax.Problems) {
	t.Helper()
	return ParseJob(append(args, "-f", "-"), nil, checkout(t), Job{Stdin: stdin})
}

// TestDockerfileFromInput: the text is read once, for any context, and the cache key differs from
// that of a file.
func TestDockerfileFromInput(t *testing.T) {
	t.Parallel()
	const text = "# syntax=example.org/frontend\nFROM scratch\n"
	for _, context := range []string{".", "https://example.com/o/r.git#main:sub", "https://example.com/context.tar.gz"} {
		v, problems := fromInput(t, strings.NewReader(text), context)
		d := v.Dockerfile
		if len(problems) > 0 || string(d.Text) != text || d.Path != "" || d.InContext != "" {
			t.Errorf("%s: %+v, %s", context, d, problems)
		}
		if d.Name != "stdin" || d.Key != "stdin" || d.Filename() != "Dockerfile" || v.Context.Source != context {
			t.Errorf("%s: %+v", context, d)
		}
		if got := v.CustomFrontend(); got != "the frontend example.org/frontend" {
			t.Errorf("%s: %s", context, got)
		}
	}
}

func TestNoDockerfileFromInput(t *testing.T) {
	t.Parallel()
	const hint = "\nhint: pipe it in: warmlayer --file - < Dockerfile"
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	none, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = none.Close() })
	for name, test := range map[string]struct {
		stdin   io.Reader
		context string
		want    string
	}{
		"nil":       {want: "file: there is no standard input to read the Dockerfile from\nhint: name a file"},
		"empty":     {stdin: strings.NewReader(" \n"), want: "file: the Dockerfile is read from standard input, which is empty" + hint},
		"/dev/null": {stdin: none, want: "file: the Dockerfile is read from standard input, which is empty" + hint},
		"terminal":  {stdin: terminal, want: "file: the Dockerfile is read from standard input, which is a terminal" + hint},
		"broken":    {stdin: iotest.ErrReader(errors.New("hunter2")), want: "file: the Dockerfile cannot be read from standard input" + hint},
		"closed":    {stdin: (*os.File)(nil), want: "file: the Dockerfile cannot be read from standard input" + hint},
		"context too": {
			stdin: iotest.ErrReader(errors.New("it is read")), context: "-",
			want: "context: standard input cannot be both the context and the Dockerfile\nhint: unpack the context into a directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"--context", test.context}
			if test.context == "" {
				args = nil
			}
			if _, problems := fromInput(t, test.stdin, args...); problems.Error() != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", problems, test.want)
			}
		})
	}
}

// TestCustomFrontend: the frontend of a Dockerfile, unless it is BuildKit's own.
func TestCustomFrontend(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values Values
		want   string
	}{
		{Values{Dockerfile: Dockerfile{Text: []byte("FROM scratch\n")}}, ""},
		{Values{Dockerfile: Dockerfile{Text: []byte("# syntax=docker/dockerfile:1.20\nFROM scratch\n")}}, ""},
		{Values{Dockerfile: Dockerfile{Text: []byte("# syntax=docker/dockerfile-upstream:master\n")}}, ""},
		{Values{Dockerfile: Dockerfile{Text: []byte("#!/bin/x\n# syntax = example.org/f:1 --flag\n")}}, "the frontend example.org/f:1"},
		{Values{Dockerfile: Dockerfile{InContext: "Dockerfile"}}, "the frontend of a remote Dockerfile"},
		{Values{Dockerfile: Dockerfile{InContext: "Dockerfile"}, Syntax: "docker/dockerfile:1"}, ""},
		{Values{Dockerfile: Dockerfile{Text: []byte("FROM scratch\n")}, Syntax: " example.org/f words"}, "the frontend example.org/f"},
	} {
		if got := test.values.CustomFrontend(); got != test.want {
			t.Errorf("%+v: %q, want %q", test.values.Dockerfile, got, test.want)
		}
	}
}
