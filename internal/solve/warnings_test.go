package solve

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestWarnings: the warnings of a build have their lines in the repository, like those of a check.
func TestWarnings(t *testing.T) {
	t.Parallel()
	daemon, dir := testkit.StartBuildkitd(t), app(t, "")
	if err := os.Mkdir(filepath.Join(dir, "deploy"), 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(dir, "deploy", "Image"), "FROM scratch\n\nLABEL a \\\n  b\n")
	r := request(t, daemon, dir)
	r.Inputs.Dockerfile = inputs.Dockerfile{Path: filepath.Join(dir, "deploy", "Image"), Name: "deploy/Image"}
	want := Warning{
		Text:   `LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy "LABEL key value" format (line 3)`,
		Detail: `Legacy key/value format with whitespace separator should not be used`,
		URL:    "https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/",
		Place:  Place{File: "deploy/Image", Line: 3, EndLine: 4},
	}
	r.Inputs.CallIgnoreStatus = true
	for _, call := range []string{"", "check"} {
		r.Inputs.Call, r.Inputs.Platforms = call, []string{"linux/amd64", "linux/arm64"}
		if got := r.must(t).Warnings; len(got) != 1 || got[0] != want {
			t.Errorf("call %q: warnings %+v\nwant %+v", call, got, want)
		}
	}
}

// Warnings arrive in any order, and are returned in the order of their lines.
func TestWarningsInOrder(t *testing.T) {
	t.Parallel()
	w := testWatch(t)
	for _, line := range []int32{7, 2, 5} {
		w.update(&client.SolveStatus{Warnings: []*client.VertexWarning{{Range: []*pb.Range{{Start: &pb.Position{Line: line}}}}}})
	}
	var got []int32
	for _, one := range w.sorted() {
		got = append(got, one.Range[0].Start.Line)
	}
	if !slices.Equal(got, []int32{2, 5, 7}) {
		t.Errorf("lines %d", got)
	}
}

// TestFailure: a step that fails is reported with its lines and the end of its log.
func TestFailure(t *testing.T) {
	t.Parallel()
	daemon := testkit.StartBuildkitd(t)
	r := request(t, daemon, app(t, "FROM base\nRUN seq 5000 >&2 && \\\n  printf '\\033[1;31mno such luck\\033[0m\\n' >&2 && exit 3\n"))
	got := r.fails(t, "exit code: 3").Failure
	if got == nil || got.Place != (Place{"Dockerfile", 4, 5}) || !strings.HasPrefix(got.Step, "[stage-1 1/1] RUN seq") {
		t.Fatalf("failure %+v", got)
	}
	if !strings.HasSuffix(got.Log, "\n5000\nno such luck\n") || len(got.Log) > maxLog || !strings.HasPrefix(got.Log, "4") {
		t.Errorf("log %q", got.Log)
	}
	r = request(t, daemon, app(t, "FROM base\nRUNN\n"))
	if got := r.fails(t, "unknown instruction").Failure; got == nil || *got != (Failure{What: "RUNN: unknown instruction: RUNN (did you mean RUN?)", Place: Place{"Dockerfile", 4, 4}}) {
		t.Errorf("failure of a file that is not a Dockerfile: %+v", got)
	}
	// A failure without a line of a Dockerfile.
	r = request(t, daemon, app(t, "FROM base\n"))
	r.Inputs.Target = "nowhere"
	want := Failure{What: `target: no stage is called "nowhere"`, Next: "name the stage in the Dockerfile: FROM … AS nowhere"}
	if got := r.fails(t, "nowhere").Failure; got == nil || *got != want {
		t.Errorf("failure of a target: %+v", got)
	}
}

// TestClipped: BuildKit cuts the output of a step, and a warning says so.
func TestClipped(t *testing.T) {
	t.Parallel()
	daemon := testkit.StartBuildkitdIn(t, []string{"BUILDKIT_STEP_LOG_MAX_SIZE=1024"})
	dir := app(t, "RUN echo short\nRUN seq 1000\n")
	got := request(t, daemon, dir).must(t).Warnings
	const want = "the log lacks output of [3/3] RUN seq 1000, which BuildKit cuts at 1KiB; for all of it start buildkitd with"
	if len(got) != 1 || !strings.HasPrefix(got[0].Text, want) {
		t.Errorf("warnings %+v", got)
	}
}
