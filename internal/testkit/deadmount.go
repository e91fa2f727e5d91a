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
	// Operations that were abandoned go on when they fail, and make missing directories. So the path
	// names the mounted root itself, also after its end: nothing can be made below it, and below
	// /proc. The descriptor stays open, so that its number names nothing else.
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// This fails the operations that block.
		if err := unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		unix.Close(fuse)
	})
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), root)
}
