package testkit

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// Opened tells each time that a process opens the file with this name in a directory, which exists. The
// channel is closed when the test has ended.
func Opened(t testing.TB, dir, name string) <-chan struct{} {
	t.Helper()
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_OPEN|unix.IN_DELETE_SELF); err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{}, 1<<16) // more than a test causes, so that the goroutine ends though the test reads no further
	go func() {
		defer close(opened)
		defer unix.Close(watch)
		for buffer := make([]byte, 64<<10); ; {
			n, err := unix.Read(watch, buffer)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return
			}
			for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
				// struct inotify_event: wd, mask, cookie, len, and a name of len bytes (inotify(7)).
				mask, size := binary.NativeEndian.Uint32(rest[4:]), int(binary.NativeEndian.Uint32(rest[12:]))
				of := rest[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+size]
				rest = rest[unix.SizeofInotifyEvent+size:]
				switch {
				case mask&(unix.IN_DELETE_SELF|unix.IN_IGNORED) != 0:
					return // the test's directory is removed at its end
				case string(bytes.TrimRight(of, "\x00")) == name:
					opened <- struct{}{}
				}
			}
		}
	}()
	return opened
}
