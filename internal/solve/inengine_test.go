package solve_test

import (
	"os"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestEnginePushRefused: the engine pushes the image itself, and what the registry says is explained as on
// other builders.
func TestEnginePushRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	registry := newProxy(t)
	registry.misbehave(status(403, "DENIED"), method("PUT"), path("/manifests/"))
	run := build(testkit.App(t), "--cache", "none", "--network", "none", "--push", "--tags", registry.Host+"/shop:v1", "--builder", "engine")
	run.Env = map[string]string{"DOCKER_HOST": testkit.StartDockerd(t)}
	out := run.Start(t)
	for _, words := range []string{"failed to push " + registry.Host + "/shop:v1: ", "\n  error  pushing " + registry.Host + "/shop:v1: " + registry.Host + " refuses access", " pushing " + registry.Host + "/shop:v1 with docker\n"} {
		if !strings.Contains(out.Text, words) {
			t.Errorf("the log lacks %q:\n%s", words, out.Text)
		}
	}
	if out.Code != 1 || len(out.Report.Steps) == 0 {
		t.Errorf("exit code %d, %d steps", out.Code, len(out.Report.Steps))
	}
}
