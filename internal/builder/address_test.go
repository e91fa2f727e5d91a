package builder_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client/connhelper"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
)

// TestAddress connects to a builder that runs already.
func TestAddress(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	owner := open(t, in(dir, builder.Options{Address: embedded}))
	address := "unix://" + filepath.Join(dir, entries(t, dir)[0], "buildkitd.sock")

	for name, a := range map[string]builderspec.Address{
		"of the input":  remote(t, address),
		"of a variable": {Kind: builderspec.Remote, Scheme: "unix", URL: address, Origin: "BUILDKIT_HOST"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := builder.Open(t.Context(), builder.Options{Address: a})
			if err != nil {
				t.Fatal(err)
			}
			if b.Managed || b.Address != address || b.Log() != "" {
				t.Errorf("Managed %v, Address %q, Log %q", b.Managed, b.Address, b.Log())
			}
			if len(b.Platforms) == 0 || b.Platforms[0].OS != owner.Platforms[0].OS || b.Platforms[0].Architecture != owner.Platforms[0].Architecture {
				t.Errorf("Platforms = %v, want %v", b.Platforms, owner.Platforms)
			}
			if err := b.Restart(t.Context()); err == nil || !strings.Contains(err.Error(), "is not a managed builder") {
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
		t.Errorf("closing a connection damaged the daemon: %v", err)
	}
	closeTimely(t, owner)
}

// Each kind of address has code that connects to it: BuildKit's client, one of its connection
// helpers, or this package.
func TestEverySchemeIsKnown(t *testing.T) {
	t.Parallel()
	for _, scheme := range builderspec.Schemes() {
		helper, err := connhelper.GetConnectionHelper(scheme + "://name")
		if err != nil || helper == nil && !slices.Contains([]string{"unix", "tcp", "docker-container"}, scheme) {
			t.Errorf("%s: %v, %v", scheme, helper, err)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"unix:///nowhere/bk.sock":    "builder: no BuildKit answers at unix:///nowhere/bk.sock: ",
		"ssh://me:secret@host":       "builder: no BuildKit answers at ssh://me:***@host: ",
		"nerdctl-container://absent": "builder: no BuildKit answers at nerdctl-container://absent: ",
	} {
		_, err := builder.Open(t.Context(), builder.Options{Address: remote(t, address)})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", address, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "\nhint: ")) {
			t.Errorf("%s: a secret or no hint in %v", address, err)
		}
	}

	nowhere := remote(t, "unix:///nowhere")
	nowhere.Origin = "BUILDKIT_HOST"
	_, err := builder.Open(t.Context(), builder.Options{Address: nowhere})
	if err == nil || !strings.Contains(err.Error(), "unix:///nowhere (from BUILDKIT_HOST)") {
		t.Errorf("the origin of the address is missing: %v", err)
	}
}

// TestSilentAddress connects to a listener that accepts connections and never answers.
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
	_, err = builder.Open(ctx, builder.Options{Address: remote(t, "unix://"+socket)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open: %v, want context.DeadlineExceeded", err)
	}
}

func TestRootlessIsNotForRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	_, err := builder.Open(t.Context(), builder.Options{Address: builderspec.Address{Kind: builderspec.Rootless}})
	const want = "builder: rootless is for users other than root\nhint: use embedded, or run as another user"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}
