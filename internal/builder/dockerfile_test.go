package builder_test

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/builder"
)

func TestRunsOnTarget(t *testing.T) {
	t.Parallel()
	const cross = "FROM --platform=$BUILDPLATFORM golang AS build\nRUN go build\nFROM scratch\nCOPY --from=build /app /\n"
	for name, test := range map[string]struct {
		dockerfile, target string
		contexts           []string
		runs, unknown      bool
	}{
		"a step":                   {dockerfile: "FROM debian\nRUN true\n", runs: true},
		"no step":                  {dockerfile: "FROM debian\nCOPY . /\n"},
		"cross-compiled":           {dockerfile: cross},
		"with a step":              {dockerfile: cross + "RUN true\n", runs: true},
		"continues a native stage": {dockerfile: "FROM --platform=${BUILDPLATFORM} debian AS a\nFROM a\nRUN true\n"},
		"of the target by name":    {dockerfile: "FROM --platform=$TARGETPLATFORM debian\nRUN true\n", runs: true},
		"spelled out":              {dockerfile: "FROM --platform=linux/amd64 debian\nRUN true\n"},
		"a stage that is not used": {dockerfile: "FROM debian AS test\nRUN true\nFROM scratch\nCOPY . /\n"},
		"up to it":                 {dockerfile: "FROM debian AS test\nRUN true\nFROM scratch\nCOPY . /\n", target: "Test", runs: true},
		"by its number":            {dockerfile: "FROM debian\nRUN true\nFROM scratch\nCOPY --from=0 / /\n", runs: true},
		"mounted": {
			dockerfile: "FROM debian AS tool\nRUN true\nFROM --platform=$BUILDPLATFORM debian AS b\nRUN --mount=from=tool,target=/t true\nFROM scratch\nCOPY --from=b / /\n",
			runs:       true,
		},
		"a context instead": {dockerfile: "FROM debian AS a\nRUN true\nFROM scratch\nCOPY --from=a / /\n", contexts: []string{"a"}},
		"of the same name":  {dockerfile: "FROM debian AS debian\nRUN true\nFROM debian\n", runs: true},
		"no such target":    {dockerfile: "FROM debian\nRUN true\n", target: "x", unknown: true},
		"another language":  {dockerfile: "# syntax=example/other\nmake: all\n", unknown: true},
		"no Dockerfile":     {unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runs, known := builder.RunsOnTarget([]byte(test.dockerfile), test.target, test.contexts)
			if runs != test.runs || known == test.unknown {
				t.Errorf("runs %v, known %v", runs, known)
			}
		})
	}
}
