package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// Two builders, one for each platform, make the same image as one builder for both. Each keeps its
// own cache.
func TestSeveralBuilders(t *testing.T) {
	t.Parallel()
	registry, app := testkit.StartRegistry(t).Host, testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), portableFile)
	run := func(name, cache string, flags ...string) testkit.Report {
		r := testkit.Invocation{Dir: app, Branch: "main", Args: append([]string{
			"--tags", registry + "/app:" + name, "--cache", "type=registry,ref=" + registry + "/cache:" + cache,
			"--build-args", "SOURCE_DATE_EPOCH=1", "--provenance", "false", "--annotations", "index:org.example.a=b",
			"--outputs", "type=image,push=true,rewrite-timestamp=true",
		}, flags...)}
		return r.Build(t)
	}
	one := run("one", "one", "--platforms", "linux/amd64,linux/arm64")
	two := func() []string {
		return []string{
			"--builder", testkit.StartBuildkitd(t) + ";platforms=linux/amd64",
			"--builder", "embedded;platforms=linux/arm64",
		}
	}
	cold := run("two", "two", two()...)
	if cold.Digest == "" || cold.Digest != one.Digest || cold.Cached() != 0 {
		t.Errorf("two builders made %s, one made %s; %d steps cached", cold.Digest, one.Digest, cold.Cached())
	}
	warm := run("again", "two", two()...)
	if warm.Digest != cold.Digest || warm.Cached() != len(warm.Steps) {
		t.Errorf("warm: %s, %d of %d steps cached", warm.Digest, warm.Cached(), len(warm.Steps))
	}
	var scopes []string
	for _, e := range cold.Exports {
		scopes = append(scopes, e.Name+" "+e.Outcome)
	}
	slices.Sort(scopes)
	if got := strings.Join(scopes, ", "); got != "b-main written, b-main.platform-linux-arm64-eb982e3de0c32790 written" {
		t.Errorf("exports %s", got)
	}
	testkit.Write(t, filepath.Join(app, "Dockerfile"), portableFile+"ARG TARGETARCH\nCOPY only-$TARGETARCH /\n")
	testkit.Write(t, filepath.Join(app, "only-amd64"), "here")
	out := testkit.Invocation{Dir: app, Branch: "main", Args: append(two(), "--tags", registry+"/app:broken", "--push", "--cache", "none")}.Start(t)
	if out.Code != 1 || !strings.Contains(out.Report.Error, "linux/arm64: ") || out.Report.Digest != "" {
		t.Errorf("a part that fails: exit code %d, error %q, image %q\n%s", out.Code, out.Report.Error, out.Report.Digest, out.Text)
	}
}
