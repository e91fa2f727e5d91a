package builder_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/warmlayer/warmlayer/internal/builder"
)

// FuzzRunsOnTarget: the answer is known for what BuildKit parses. A stage runs a step on the target
// only if it, or another, has a RUN; its name, its number and a comment make no difference.
func FuzzRunsOnTarget(f *testing.F) {
	for _, text := range []string{
		"FROM a\nRUN x\n", "FROM --platform=$BUILDPLATFORM a AS b\nRUN x\nFROM scratch\nCOPY --from=b / /\n", "FROM --platform=$TARGETPLATFORM a\nRUN --mount=from=0 x\n", "FROM a AS b\nFROM b AS c\nFROM c\nRUN x",
		"FROM 0\nCOPY --from=0 / /\nRUN x", "FROM a AS A\nRUN x\nFROM A AS a\nFROM a\n", "FROM ${X:-a}\nRUN <<EOF\nx\nEOF\n", "FROM a\nRUN --mount=type=cache,from=$X x\n", "# syntax=x\nfrom a as b\nrun [\"x\"]\nFROM b\nONBUILD RUN x",
	} {
		f.Add([]byte(text), "")
	}
	f.Add([]byte("FROM a AS b\nRUN x\nFROM scratch\n"), "b")
	f.Fuzz(func(t *testing.T, text []byte, target string) {
		runs, known := builder.RunsOnTarget(text, target, nil)
		ast, err := parser.Parse(bytes.NewReader(text))
		var stages []instructions.Stage
		if err == nil {
			stages, _, err = instructions.Parse(ast.AST, nil)
		}
		if err != nil || len(stages) == 0 {
			if known {
				t.Errorf("%q is known, and not to BuildKit: %v", text, err)
			}
			return
		}
		if !known {
			if target == "" {
				t.Errorf("%q is not known", text)
			}
			return
		}
		hasRun := false
		for _, s := range stages {
			for _, c := range s.Commands {
				_, run := c.(*instructions.RunCommand)
				hasRun = hasRun || run
			}
		}
		if runs && !hasRun {
			t.Errorf("%q runs a step, and has none", text)
		}
		if target == "" {
			last := len(stages) - 1
			for _, s := range stages {
				if s.Name == strconv.Itoa(last) {
					return
				}
			}
			if byNumber, known := builder.RunsOnTarget(text, strconv.Itoa(last), nil); !known || byNumber != runs {
				t.Errorf("%q: stage %d runs %v, %v, and as the last one %v", text, last, byNumber, known, runs)
			}
		}
		if alone, known := builder.RunsOnTarget(text, target, []string{"no-such-name"}); !known || alone != runs {
			t.Errorf("%q: with a context that it does not name %v, else %v", text, alone, runs)
		}
		if !strings.Contains(string(text), "escape") && !bytes.Contains(text, []byte("<<")) && len(text) > 0 && text[len(text)-1] == '\n' && !bytes.HasSuffix(bytes.TrimSpace(text), []byte(`\`)) {
			if again, known := builder.RunsOnTarget(append(bytes.Clone(text), "# comment\n"...), target, nil); !known || again != runs {
				t.Errorf("%q: with a comment %v, %v, else %v", text, again, known, runs)
			}
		}
	})
}
