package conformance

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// mounts: the files of a cache mount are kept with the scope. An unchanged build does not touch them, a branch gets
// those of main, and keeps its own beside them.
func (s suite) mounts(t *testing.T) {
	app, out := twoStages(t), t.TempDir()
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCOPY site site\n"+
		"RUN --mount=type=cache,target=/var/made "+testkit.Awaits("/var/made/log", "! grep -q ^1 site/index.txt")+"; mkdir /out && touch /out/found && cp /var/made/log /out/found 2>/dev/null; cat site/index.txt >> /var/made/log\n")
	c := s.h.open(t)
	build := func(branch, want string) testkit.Report {
		t.Helper()
		r := s.run(t, c, app, branch, "--cache-mounts", "auto", "--default-branch", "main", "--outputs", "type=local,dest="+out+",src=/out").Build(t)
		got, err := os.ReadFile(filepath.Join(out, "found"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) || string(got) != want {
			t.Errorf("%s: the mount had %q, want %q (%v)", branch, got, want, err)
		}
		for _, m := range r.Mounts {
			if m.Error+m.Reason != "" {
				t.Errorf("%s: %+v", branch, m)
			}
		}
		return r
	}
	change := func(text string) { testkit.Write(t, filepath.Join(app, "site", "index.txt"), text) }

	change("1\n")
	build("main", "")
	if same := build("main", ""); len(same.Mounts) > 0 {
		t.Errorf("all steps were cached: %+v", same.Mounts)
	}
	change("2\n")
	build("feature", "1\n")
	change("3\n")
	build("feature", "1\n2\n")
	build("main", "1\n")
}
