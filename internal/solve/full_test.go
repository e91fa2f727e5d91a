package solve_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestFullDisk: the disk of a cache is full. The build succeeds, and the report names the disk: the
// cause is not that something was denied.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd, reports := build(testkit.App(t), "--cache", "type=local,dest="+dir, "--outputs", "type=cacheonly").Command(t)
	// A mount namespace of its own, whose end is the end of the small disk.
	small := exec.Command("unshare", append([]string{"--mount", "sh", "-c", `mount -t tmpfs -o size=64k tmpfs "$0" && exec "$@"`, dir}, cmd.Args...)...)
	small.Env, small.Dir = cmd.Env, cmd.Dir
	text, err := small.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var r testkit.Report
	content, err := os.ReadFile(filepath.Join(reports, "warmlayer.json"))
	if err = errors.Join(err, json.Unmarshal(content, &r)); err != nil {
		t.Fatal(err)
	}
	reason := r.Exports[0].Error
	if r.Outcome(t) != "failed" || !strings.HasPrefix(reason, "the disk is full; free space there, ") || strings.Contains(reason, "denied") {
		t.Errorf("the export is %s: %s", r.Outcome(t), reason)
	}
	if n := strings.Count(string(text), "the disk is full"); n != 1 {
		t.Errorf("the log says so %d times:\n%s", n, text)
	}
}
