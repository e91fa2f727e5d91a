package builder_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/builder"
)

// TestAddress connects to a daemon that somebody else owns.
func TestAddress(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	owner := open(t, builder.Options{Address: "embedded", TempDir: dir})
	address := "unix://" + filepath.Join(dir, entries(t, dir)[0], "buildkitd.sock")

	for name, o := range map[string]builder.Options{
		"named":             {Address: address},
		"auto":              {Address: "auto", Environ: []string{"BUILDKIT_HOST=" + address}},
		"empty":             {Environ: []string{"BUILDKIT_HOST=unix:///nowhere", "BUILDKIT_HOST=" + address}},
		"named before auto": {Address: address, Environ: []string{"BUILDKIT_HOST=unix:///nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := builder.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if b.Ours || b.Address != address || b.Log() != "" {
				t.Errorf("Ours %v, Address %q, Log %q", b.Ours, b.Address, b.Log())
			}
			if len(b.Platforms) == 0 || b.Platforms[0].OS != owner.Platforms[0].OS || b.Platforms[0].Architecture != owner.Platforms[0].Architecture {
				t.Errorf("Platforms = %v, want %v", b.Platforms, owner.Platforms)
			}
			if err := b.Restart(t.Context()); err == nil || !strings.Contains(err.Error(), "not a daemon of ours") {
				t.Errorf("restart: %v", err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			if err := b.Close(); err != nil {
				t.Errorf("second close: %v", err)
			}
		})
	}
	if _, err := owner.Client.ListWorkers(t.Context()); err != nil {
		t.Errorf("closing a connection hurt the daemon: %v", err)
	}
	closeTimely(t, owner)
}

func TestRemote(t *testing.T) {
	t.Parallel()
	environ := []string{"BUILDKIT_HOST=tcp://there:1234"}
	for _, test := range []struct {
		o    builder.Options
		want string
	}{
		{builder.Options{}, ""},
		{builder.Options{Address: "auto"}, ""},
		{builder.Options{Address: "auto", Environ: environ}, "tcp://there:1234"},
		{builder.Options{Environ: environ}, "tcp://there:1234"},
		{builder.Options{Address: "embedded", Environ: environ}, ""},
		{builder.Options{Address: "rootless", Environ: environ}, ""},
		{builder.Options{Address: "ssh://me@there", Environ: environ}, "ssh://me@there"},
	} {
		if got := test.o.Remote(); got != test.want {
			t.Errorf("%+v is at %q, want %q", test.o, got, test.want)
		}
	}
}

func TestBadAddress(t *testing.T) {
	t.Parallel()
	const hint = "\nhint: use auto, embedded, rootless, container, or an address that starts with " +
		"unix://, tcp://, docker-container://, podman-container://, nerdctl-container://, kube-pod://, ssh://"
	for address, want := range map[string]string{
		"embeded":                 `builder: "embeded" is no address of a BuildKit` + hint,
		"/run/buildkitd.sock":     `builder: "/run/buildkitd.sock" is no address of a BuildKit` + hint,
		"https://me:secret@host":  `builder: "https://me:***@host" is no address of a BuildKit` + hint,
		"ssh://me:sec%ret@host":   `builder: "ssh://me:***@host" is no address of a BuildKit` + hint,
		"unix:///nowhere/bk.sock": "builder: no BuildKit answers at unix:///nowhere/bk.sock: ",
		"ssh://me:secret@host":    "builder: no BuildKit answers at ssh://me:***@host: ",
		"docker-container://":     `builder: "docker-container://" is no address of a BuildKit` + hint,
	} {
		_, err := builder.Open(t.Context(), builder.Options{Address: address})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", address, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "\nhint: ")) {
			t.Errorf("%s: a secret or no hint in %v", address, err)
		}
	}

	_, err := builder.Open(t.Context(), builder.Options{Environ: []string{"BUILDKIT_HOST=unix:///nowhere"}})
	if err == nil || !strings.Contains(err.Error(), "unix:///nowhere (from BUILDKIT_HOST)") {
		t.Errorf("the origin of the address is missing: %v", err)
	}
}

// TestSilentAddress connects to something that accepts and never answers.
func TestSilentAddress(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(tempDir(t), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = builder.Open(ctx, builder.Options{Address: "unix://" + socket})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open: %v, want context.DeadlineExceeded", err)
	}
}

func TestRootlessIsNotForRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	_, err := builder.Open(t.Context(), builder.Options{Address: "rootless"})
	const want = "builder: rootless is for users other than root\nhint: use embedded, or run as another user"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}
