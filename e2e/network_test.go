package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// A RUN step reaches the machine's loopback interface only where the build allows the host's network,
// and the report says which network it was on. A proxy there gives a warning.
func TestNetworkOfSteps(t *testing.T) {
	t.Parallel()
	busybox, err := os.ReadFile("/bin/busybox")
	testkit.Need(t, "busybox", err)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	for _, test := range []struct {
		args          []string
		steps, reason string
		reaches       bool
		warns         bool
	}{
		{steps: "own"},
		{args: []string{"--build-args", "http_proxy=http://localhost:3128"}, steps: "own", warns: true},
		{args: []string{"--network", "host", "--allow", "network.host"}, steps: "host", reason: "network: host", reaches: true},
		{args: []string{"--buildkitd-flags=--oci-worker-net=host"}, steps: "configured", reason: "buildkitd-flags sets --oci-worker-net", reaches: true},
	} {
		dir := t.TempDir()
		not := "! "
		if test.reaches {
			not = ""
		}
		dockerfile := fmt.Sprintf("FROM scratch\nCOPY busybox /bin/sh\nRUN %s/bin/sh -c 'unset http_proxy; exec -a wget /bin/sh -q -O /dev/null %s'\n", not, server.URL)
		for name, content := range map[string][]byte{"busybox": busybox, "Dockerfile": []byte(dockerfile)} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		report := testkit.Invocation{Args: append(test.args, "--cache", "none", "--outputs", "type=cacheonly", dir)}.Build(t)
		if len(report.Network) != 1 || report.Network[0].Steps != test.steps || report.Network[0].Reason != test.reason {
			t.Errorf("%q: %+v, want %s, %q", test.args, report.Network, test.steps, test.reason)
		}
		if warned := strings.Contains(strings.Join(report.Warnings, "\n"), "RUN steps do not reach the proxy in http_proxy"); warned != test.warns {
			t.Errorf("%q: warnings %q", test.args, report.Warnings)
		}
	}
}
