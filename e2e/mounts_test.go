package e2e

import (
	"path/filepath"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestCacheMounts: every kind of managed builder restores a mount before the step that needs it, and saves it. Those of
// remote builders are in backends/conformance.
func TestCacheMounts(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"embedded", "rootless", "container"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, kind, "registry")
			testkit.Write(t, filepath.Join(b.root, "app", "Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCOPY change restore[d] /\n"+
				"RUN --mount=type=cache,target=/var/made "+testkit.Awaits("/var/made/log", "[ -e /restored ]")+"; cat /change >> /var/made/log; ls -l /var/made\n")
			b.run.Args = append(b.run.Args, "--cache-mounts", "auto")
			if r := b.build(t); len(r.Mounts) != 1 || r.Mounts[0].Saved == nil || r.Mounts[0].Restored != nil {
				t.Fatalf("the first build: %+v", r.Mounts)
			}
			b.change(t)
			testkit.Write(t, filepath.Join(b.root, "app", "restored"), "")
			if r := b.build(t); len(r.Mounts) != 1 || r.Mounts[0].Restored == nil || r.Mounts[0].Error != "" {
				t.Errorf("%+v %q", r.Mounts, r.Warnings)
			}
		})
	}
}
