package conformance

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// atOnce: processes that export to one scope at once all succeed. The scope is whole, and holds the
// builds of all of them.
func (s suite) atOnce(t *testing.T) {
	c := s.h.open(t)
	writer := s
	builder := []string{"--cache-keep-size", "10000%"} // these builds have nothing in common
	if writer.h.remote {
		builder, writer.h.remote = append(builder, "--builder", testkit.StartBuildkitd(t)), false // one for all
	}
	var runs []testkit.Invocation
	for i := range testkit.Long(3, 8) {
		app := oneStep(t)
		testkit.Write(t, filepath.Join(app, "writer"), strconv.Itoa(i))
		runs = append(runs, writer.run(t, c, app, "main", builder...))
	}
	for i, out := range testkit.StartAll(t, runs...) {
		if out.Code != 0 || out.Report.Outcome(t) != "written" {
			t.Errorf("writer %d: exit code %d, exports %+v, warnings %q", i, out.Code, out.Report.Exports, out.Report.Warnings)
		}
	}
	scopes := c.scopes(t)
	for _, desc := range c.manifest(t, "b-main").Blobs() {
		if _, err := backends.ReadBlob(t.Context(), scopes, desc, desc.Size); err != nil {
			t.Errorf("%s: %v", desc.Digest, err)
		}
	}
	found := 0
	for _, r := range runs {
		next := s.run(t, c, r.Dir, "main", "--cache-write", "never").Build(t)
		if next.Source("b-main") != "loaded" {
			t.Fatalf("sources %+v", next.Sources)
		}
		if len(next.Steps) > 0 && next.Cached() == len(next.Steps) {
			found++
		}
	}
	// Where BuildKit itself replaces the scope, and in an image, the last writer's build remains.
	if want := len(runs); found == 0 || found < want && !s.h.remote && !s.h.inline && !s.h.seconds {
		t.Errorf("the scope has the builds of %d writers of %d", found, want)
	}
}
