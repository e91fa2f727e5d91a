package builder_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// Where no network can be made a build uses the machine's, and the builder says why.
func TestNoStepNetwork(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	program := filepath.Join(tempDir(t), "program")
	script := "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\",\"code\":100,\"msg\":\"no network for steps: it is broken\"}'\nexit 1\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	o := in(dir, builder.Options{Address: embedded})
	o.Program = program
	b := open(t, o)
	if want := (builder.Network{Steps: builder.NetworkHost, Reason: "it is broken"}); b.Network != want {
		t.Errorf("%+v, want %+v", b.Network, want)
	}
	files, err := run(t.Context(), b, fetch+fmt.Sprintf("fetch http://127.0.0.1:%s > /loopback", serve(t, "127.0.0.1", hello)))
	if err != nil || files["loopback"] != "hello" {
		t.Errorf("%q, %v", files, err)
	}
	closeTimely(t, b)
	nothingLeft(t, dir)
}

// The image's daemon makes a network when a step needs it, and none at its start.
func TestStepNetworkLate(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a rootless daemon tries a network at its start")
	}
	dir := tempDir(t)
	b := onOwnNetwork(t, dir, builder.Options{Environ: environ(testkit.ImagePath(t))})
	made, err := filepath.Glob(filepath.Join(dir, "*", "state", "net", "cni", "*"))
	if err != nil || len(made) > 0 {
		t.Errorf("%v, %v", made, err)
	}
	address := ownAddress(t)
	files, err := run(t.Context(), b, fetch+fmt.Sprintf("fetch http://%s:%s > /outside", address, serve(t, address, hello)))
	if err != nil || files["outside"] != "hello" {
		t.Errorf("%q, %v\n%s", files, err, b.Log())
	}
	closeTimely(t, b)
	nothingLeft(t, dir)
}

// Where no program may run in the builder's directory no network can be made, which the image's daemon does not try.
func TestNoStepNetworkLate(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a directory")
	}
	parent := tempDir(t)
	if err := unix.Mount("none", parent, "tmpfs", unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(parent, unix.MNT_DETACH) //nolint:errcheck // it holds nothing
	dir := filepath.Join(parent, "builders")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b := open(t, in(dir, builder.Options{Address: embedded, Environ: environ(testkit.ImagePath(t))}))
	if b.Network.Steps != builder.NetworkHost || !strings.Contains(b.Network.Reason, "permission denied") {
		t.Errorf("%+v", b.Network)
	}
	closeTimely(t, b)
	nothingLeft(t, dir)
}
