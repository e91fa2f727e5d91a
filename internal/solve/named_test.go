package solve

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// named are the named contexts of a line of build-contexts.
func named(t *testing.T, line string) []inputs.Context {
	t.Helper()
	values, problems := inputs.Parse([]string{"--build-contexts", line, "https://example.com/context.tar"}, nil, t.TempDir())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return values.BuildContexts
}

// TestNamedContexts: one of each kind.
func TestNamedContexts(t *testing.T) {
	t.Parallel()
	daemon, registry := testkit.StartBuildkitd(t), testkit.StartRegistry(t).Host
	made := request(t, daemon, app(t, "FROM scratch AS image\nCOPY site/about.txt /file\n"))
	layout := filepath.Join(t.TempDir(), "layout")
	made.pushes(registry + "/named:v1")
	made.Inputs.Outputs = append(made.Inputs.Outputs, inputs.Output{
		Type: "oci", Attrs: map[string]string{"tar": "false", "name": "example.org/named:v1"}, Dest: layout,
	})
	digest := made.must(t).Digest.String()

	dir := t.TempDir()
	about, err := os.ReadFile(filepath.Join(made.Inputs.Dir, "site", "about.txt"))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(dir, "file"), string(about))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()

	for name, source := range map[string]string{
		"directory":                dir,
		"image":                    "docker-image://" + registry + "/named:v1",
		"image by digest":          "docker-image://" + registry + "/named@" + digest,
		"layout":                   "oci-layout://" + layout,
		"layout by tag":            "oci-layout://" + layout + ":v1",
		"layout by digest":         "oci-layout://" + layout + "@" + digest,
		"layout by tag and digest": "oci-layout://" + layout + ":v1@" + digest,
		"URL":                      server.URL + "/file",
	} {
		t.Run(name, func(t *testing.T) {
			for _, as := range []string{"more", "context"} {
				from := "/file"
				if strings.HasPrefix(source, "http") {
					from = "/context" // the name of a URL's only file in a named context
				}
				dockerfile := "FROM scratch\nCOPY --from=" + as + " " + from + " /copy\n"
				r := request(t, daemon, app(t, dockerfile))
				testkit.Write(t, filepath.Join(r.Inputs.Dir, "Dockerfile"), dockerfile)
				r.Inputs.BuildContexts = named(t, as+"="+source)
				if got := r.file(t, "copy"); got != string(about) {
					t.Errorf("as %s: %q", as, got)
				}
			}
		})
	}
}

// TestNamedContextExcludes: a cache in a named context is left out, as in the build context.
func TestNamedContextExcludes(t *testing.T) {
	t.Parallel()
	dir := app(t, "FROM base\nCOPY --from=more . /more\nRUN ls /more > /facts\n")
	more := filepath.Join(dir, "more")
	for _, name := range []string{"kept", "cache"} {
		if err := os.MkdirAll(filepath.Join(more, name), 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.Write(t, filepath.Join(more, name, "file"), name)
	}
	r := request(t, testkit.StartBuildkitd(t), dir)
	r.Inputs.BuildContexts, r.Exclude = named(t, "more="+more), []string{filepath.Join(more, "cache")}
	if got := r.file(t, "facts"); got != "kept\n" {
		t.Errorf("the context holds %q", got)
	}
}

func TestContextsInURLs(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"https://github.com/o/r.git":        "moby.buildkit.frontend.contexts+forward",
		"https://github.com/o/r.git?ref=v1": "moby.buildkit.frontend.contexts+forward,moby.buildkit.frontend.gitquerystring+forward",
		"git@github.com:o/r.git":            "moby.buildkit.frontend.contexts+forward",
		"http://example.org/context.tar":    "moby.buildkit.frontend.contexts+forward",
	} {
		b := run{Request: Request{Inputs: inputs.Values{BuildContexts: named(t, "more="+source)}}}
		m := mounts{attrs: map[string]string{}}
		err := b.addContexts(&m)
		if err != nil || m.attrs["context:more"] != source || m.attrs["frontend.caps"] != want {
			t.Errorf("%s: %v, %v", source, m.attrs, err)
		}
	}
}
