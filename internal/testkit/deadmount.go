package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// DeadMount is a mounted directory whose file system does not answer, like that of a file
// server that is gone: every operation below it blocks until the test's end.
func DeadMount(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(Temp(t), "dead")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// A FUSE file system whose requests are not read (Linux, Documentation/filesystems/fuse.rst).
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Mount("dead", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse))
	}
	Need(t, "fuse", err)
	t.Cleanup(func() {
		// This fails the operations that block.
		if err := unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		unix.Close(fuse)
	})
	return dir
}
