package solve_test

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestAuthorities: a store has a certificate of a private authority, like everything behind a
// company's proxy. Without ca-certificates the build succeeds and says what to set; with it, as
// text or as a file, the store is written and read.
func TestAuthorities(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// start returns the store's line, its authority and its environment. The host is the one
		// that a builder must not try without TLS.
		start func(t *testing.T) (line, authority, host string, env map[string]string)
	}{
		{"registry", func(t *testing.T) (string, string, string, map[string]string) {
			s, authority := testkit.StartPrivateCA(t, testkit.StartRegistry(t).Host)
			return "type=registry,ref=" + s.Host + "/cache", authority, s.Host, nil
		}},
		{"s3", func(t *testing.T) (string, string, string, map[string]string) {
			server := testkit.StartS3(t)
			s, authority := testkit.StartPrivateCA(t, server.Address())
			return strings.ReplaceAll(server.Line(""), server.Endpoint, "https://"+s.Host), authority, "", nil
		}},
		{"azblob", func(t *testing.T) (string, string, string, map[string]string) {
			server := testkit.StartAzblob(t)
			s, authority := testkit.StartPrivateCA(t, server.Address())
			return strings.ReplaceAll(server.Line(""), "http://"+server.Address(), "https://"+s.Host), authority, "", nil
		}},
		{"gha", func(t *testing.T) (string, string, string, map[string]string) {
			var authority string
			server := testkit.StartGHABehind(t, func(url string) string {
				address := strings.TrimPrefix(url, "http://")
				if strings.Contains(address, "/") {
					return url // the storage, which the server itself asks too
				}
				s, found := testkit.StartPrivateCA(t, address)
				authority = found
				return "https://" + s.Host
			})
			return "gha", authority, "", server.Env(server.Token("refs/heads/main"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			line, authority, host, env := tt.start(t)
			app, file := testkit.App(t), filepath.Join(t.TempDir(), "ca.pem")
			testkit.Write(t, file, authority)
			run := func(authorities string) testkit.Output {
				r := build(app, "--cache", line)
				r.Env = map[string]string{"INPUT_CA_CERTIFICATES": authorities}
				maps.Copy(r.Env, env)
				if host != "" {
					// BuildKit speaks plain HTTP with 127.0.0.1 unless it is told otherwise.
					r.Args = append(r.Args, "--buildkitd-config-inline", "[registry.\""+host+"\"]\nhttp = false\ninsecure = false\n")
				}
				return r.Start(t)
			}
			out := run("")
			const cause, cure = "of an authority that is not known", "set ca-certificates"
			if out.Code != 0 || out.Report.Source("b-main") != "failed" || out.Report.Outcome(t) != "failed" {
				t.Errorf("exit code %d, sources %v, exports %v:\n%s", out.Code, out.Report.Sources, out.Report.Exports, out.Text)
			}
			if !strings.Contains(out.Report.Sources[0].Error, cause) || !strings.Contains(out.Report.Sources[0].Error, cure) ||
				!strings.Contains(out.Report.Exports[0].Error, cause) {
				t.Errorf("sources %v, exports %v", out.Report.Sources, out.Report.Exports)
			}
			if out := run(file); out.Code != 0 || out.Report.Outcome(t) != "written" || out.Report.Source("b-main") != "absent" {
				t.Fatalf("exit code %d, sources %v, exports %v:\n%s", out.Code, out.Report.Sources, out.Report.Exports, out.Text)
			}
			if out := run(authority); len(out.Report.Steps) == 0 || out.Report.Cached() < len(out.Report.Steps) {
				t.Errorf("exit code %d:\n%s", out.Code, out.Text)
			}
		})
	}
}
