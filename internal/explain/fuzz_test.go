package explain

import (
	"errors"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// FuzzBuild explains errors of any words about any Dockerfile. Both texts are one printable line of
// a bounded length, the lines are the Dockerfile's, and no secret is shown.
func FuzzBuild(f *testing.F) {
	for _, one := range []struct{ text, vertex, log, dockerfile string }{
		{`failed to compute cache key: failed to calculate checksum of ref a::b: "/nofile": not found`, "[1/2] COPY nofile /", "", "FROM a\nCOPY nofile /\n"},
		{`process "/bin/sh -c x" did not complete successfully: exit code: 127`, "[2/2] RUN x", "sh: x: not found", "FROM a\nRUN x \\\n y\n"},
		{"nope:1: failed to resolve source metadata for docker.io/library/nope:1: pull access denied", "[internal] load metadata", "", "FROM nope:1\n"},
		{"failed to push h.example/a:1: unexpected status from POST request to https://h.example/v2/: 401 Unauthorized", "", "", ""},
		{"dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)", "", "", "FROM a\n\nRUNN x"},
		{"write /x: no space left on device", "", "", "FROM a\n"}, {"secret a: not found", "[1/1] RUN", "", "FROM a\nRUN --mount=type=secret,id=a,required x\n"},
		{"failed to solve: x509: certificate signed by unknown authority dial tcp: lookup h: no such host", "", "", "FROM ${A}\nADD https://u:p@h/x /\n"},
		{"toomanyrequests: You have reached your pull rate limit", "", "", "FROM a AS b\nCOPY --from=c d e\n"}, {"exec /bin/sh: exec format error", "[1/1] RUN x", "", "FROM --platform=linux/arm64 a\nRUN x"},
	} {
		f.Add(one.text, one.vertex, one.log, []byte(one.dockerfile), 2)
		f.Add(one.text, one.vertex, one.log, []byte(one.dockerfile), 0)
	}
	const secret = "s3cret-S3cret"
	files := fstest.MapFS{"a/nofile": &fstest.MapFile{}, "go.mod": &fstest.MapFile{}}
	f.Fuzz(func(t *testing.T, text, vertex, log string, dockerfile []byte, line int) {
		half := len(text) / 2
		e := Build(Failure{
			Err: errors.New(text[:half] + secret + text[half:] + text), Vertex: vertex, Log: log + secret + log, Line: line, Dockerfile: append(dockerfile, " "+secret...),
			Redact: func(s string) string { return strings.ReplaceAll(s, secret, "***") },
			Open: func(string) (Directory, bool) {
				return Directory{Name: "e/", Files: files, Ignore: ".dockerignore", Rules: "*.go\n!a\n" + log}, true
			},
			Login: func(string, bool) Login { return Login{User: "me", From: "x"} },
		})
		for _, shown := range []string{e.What, e.Next} {
			if strings.Contains(shown, secret) || strings.Contains(shown, secret[:8]) && !strings.Contains(text+vertex+log+string(dockerfile), secret[:8]) {
				t.Errorf("%q shows the secret", shown)
			}
			if strings.ContainsFunc(shown, func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Errorf("%q is not one printable line", shown)
			}
			if n := len([]rune(shown)); n > 4*(longestInstruction+longestText) {
				t.Errorf("%d characters: %q", n, shown)
			}
		}
		lines := strings.Count(string(dockerfile), "\n") + 1
		if e.Line < 0 || e.EndLine < e.Line || e.EndLine > lines || e.What == "" && (e.Next != "" || e.Line > 0) {
			t.Errorf("%+v, of %d lines", e, lines)
		}
	})
}

// FuzzExcludes: a file is left out when moby/patternmatcher leaves it out, and then by a line of the
// file that is a pattern.
func FuzzExcludes(f *testing.F) {
	for _, rules := range []string{"*.go\n!a.go\n", "# x\n\n  vendor/ \n", "**/x\n!**\n", "a\\\nb", "!\n[", "\ufeffa\n", "a/../b\n/c\n", "*\n!a/b", ". \n.."} {
		f.Add(rules, "a.go")
		f.Add(rules, "vendor/a/b")
	}
	f.Fuzz(func(t *testing.T, rules, name string) {
		if name == "" || path.Clean(name) == "." || strings.HasPrefix(name, "/") || strings.Contains(name, "..") || strings.Contains(name, "//") || strings.HasSuffix(name, "/") {
			return
		}
		line := Directory{Rules: rules}.excludes(name)
		patterns, err := ignorefile.ReadAll(strings.NewReader(rules))
		if err != nil {
			return
		}
		want, err := patternmatcher.MatchesOrParentMatches(name, patterns)
		if err != nil {
			return // BuildKit refuses the file
		}
		if (line > 0) != want {
			t.Errorf("%q leaves out %q by line %d; in BuildKit: %v", rules, name, line, want)
		}
		if lines := strings.Split(rules, "\n"); line > len(lines) || line > 0 && strings.TrimSpace(lines[line-1]) == "" {
			t.Errorf("%q leaves out %q by line %d", rules, name, line)
		}
	})
}
