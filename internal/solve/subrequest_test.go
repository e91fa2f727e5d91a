package solve

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestCall: the frontend's answers to the input call.
func TestCall(t *testing.T) {
	t.Parallel()
	daemon := testkit.StartBuildkitd(t)
	const good = "ARG VERSION=1\nFROM base AS second\nRUN --mount=type=secret,id=token true\n"
	const bad = "FROM base as Second\nRUN true\n"
	tests := []struct {
		call, dockerfile string
		err              string
		want             []string
		warnings         int
	}{
		{call: "check", dockerfile: good, want: []string{"Check complete, no warnings found.\n"}},
		{call: "check", dockerfile: bad, err: "2 warnings have been found", warnings: 2, want: []string{
			"Check complete, 2 warnings have been found!\n", "\nWARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\n",
			"\nDockerfile:3\n", "3 | >>> FROM base as Second\n",
		}},
		{call: "check,ignorestatus=true", dockerfile: bad, warnings: 2, want: []string{"2 warnings have been found!\n"}},
		{call: "check", dockerfile: "FROM base\nRUNN true\n", err: "unknown instruction: RUNN", want: []string{"unknown instruction: RUNN", "Dockerfile:4\n"}},
		{call: "check,format=json", dockerfile: bad, err: "2 warnings have been found", warnings: 2, want: []string{"{\n  \"warnings\": [\n", `"ruleName": "StageNameCasing"`}},
		{call: "outline", dockerfile: good, want: []string{"TARGET: second\n", "SECRET", "token"}},
		{call: "outline,format=json", dockerfile: good, want: []string{`"name": "token"`}},
		{call: "targets", dockerfile: good, want: []string{"TARGET", "second (default)", "base"}},
	}
	for _, test := range tests {
		t.Run(test.call, func(t *testing.T) {
			t.Parallel()
			r := request(t, daemon, app(t, test.dockerfile))
			name, options, _ := strings.Cut(test.call, ",")
			r.Inputs.Call, r.Inputs.CallFormat = name, strings.TrimPrefix(options, "format=")
			r.Inputs.CallIgnoreStatus = options == "ignorestatus=true"
			result, err := Run(t.Context(), r)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			for _, words := range test.want {
				if !strings.Contains(result.Answer, words) {
					t.Errorf("no %q in the answer:\n%s", words, result.Answer)
				}
			}
			if len(result.Warnings) != test.warnings || len(result.Steps)+len(result.Exports) > 0 {
				t.Errorf("result %+v", result)
			}
			if strings.HasSuffix(test.call, "json") {
				var v map[string]any
				if err := json.Unmarshal([]byte(result.Answer), &v); err != nil {
					t.Errorf("%v in\n%s", err, result.Answer)
				}
			}
		})
	}
}
