package e2e

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestProxyNetwork: with buildkitd-flags --proxy-network steps trust the daemon's proxy, also of the image's
// daemon, which makes the proxy's authority when the first step needs it (internal/patch).
func TestProxyNetwork(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	busybox, err := exec.LookPath("busybox")
	testkit.Need(t, "busybox", err)
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	dir := testkit.Temp(t)
	for name, content := range map[string][]byte{
		"busybox": program,
		"ca":      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		"Dockerfile": []byte("FROM scratch\nCOPY --chmod=755 busybox /bin/busybox\nCOPY ca /etc/ssl/certs/ca-certificates.crt\n" +
			`RUN ["/bin/busybox", "sh", "-c", "test -n \"$https_proxy\" && test $(/bin/busybox grep -c BEGIN /etc/ssl/certs/ca-certificates.crt) = 2"]` + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, path := range map[string]string{"image": testkit.ImagePath(t), "machine": os.Getenv("PATH")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testkit.Invocation{
				Dir: dir, Env: map[string]string{"PATH": path},
				Args: []string{"--cache", "none", "--buildkitd-flags=--proxy-network", "--outputs", "type=tar,dest=/dev/null"},
			}.Build(t)
		})
	}
}
