package step

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/report"
	"github.com/warmlayer/warmlayer/scope"
)

// The password of a proxy is hidden, and stays out of the provenance.
func TestProxyPasswords(t *testing.T) {
	t.Parallel()
	for proxy, minimal := range map[string]bool{"http://u:hunter2@proxy.example": true, "http://proxy.example": false} {
		dir := t.TempDir()
		for name, content := range map[string]string{"Dockerfile": "FROM scratch\n", "config.json": `{"proxies": {"default": {"httpProxy": "` + proxy + `"}}}`} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for provenance, mode := range map[string]string{"mode=max,version=v1": "mode=min,version=v1", "version=v0.2": "mode=min,version=v0.2", "mode=min": "mode=min"} {
			in, problems := inputs.Parse([]string{"--cache=none", "--builder=embedded", "--outputs=type=oci,dest=x", "--provenance=" + provenance}, nil, dir)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			redactor := report.NewRedactor(nil)
			host := Host{Environ: Environment{"HOME=" + dir, "DOCKER_CONFIG=" + dir, "HTTPS_PROXY=http://a:swordfish@b"}, Redactor: redactor}
			run, problems := Resolve(in, scope.Facts{Branch: "main", Default: "main", Trusted: true}, host)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			b, want := run.Builds[0], provenance
			if minimal {
				want = mode
			}
			if got := b.Inputs.Attests[0].String(); got != want {
				t.Errorf("%s, %s: the provenance is made with %s, want %s", proxy, provenance, got, want)
			}
			if changed := want != provenance; changed != strings.Contains(strings.Join(b.Warnings, "\n"), "mode=max would publish it") {
				t.Errorf("%s, %s: warnings %q", proxy, provenance, b.Warnings)
			}
			if got := redactor.String("swordfish hunter2"); got != "*** ***" && minimal || !strings.HasPrefix(got, "***") {
				t.Errorf("%s: %s", proxy, got)
			}
		}
	}
}
