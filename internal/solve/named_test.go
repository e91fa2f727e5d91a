package solve

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestNamedContexts: one from each kind of place.
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

	for name, place := range map[string]string{
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
				if strings.HasPrefix(place, "http") {
					from = "/context" // what a named context calls the one file of a URL
				}
				dockerfile := "FROM scratch\nCOPY --from=" + as + " " + from + " /copy\n"
				r := request(t, daemon, app(t, dockerfile))
				testkit.Write(t, filepath.Join(r.Inputs.Dir, "Dockerfile"), dockerfile)
				r.Inputs.BuildContexts = []syntax.Pair{{Key: as, Value: place}}
				if got := r.file(t, "copy"); got != string(about) {
					t.Errorf("as %s: %q", as, got)
				}
			}
		})
	}
}

// TestNamedContextExcludes: a cache in a named context is left out, as in the build's own.
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
	r.Inputs.BuildContexts, r.Exclude = []syntax.Pair{{Key: "more", Value: "more"}}, []string{filepath.Join(more, "cache")}
	if got := r.file(t, "facts"); got != "kept\n" {
		t.Errorf("the context holds %q", got)
	}
}

func TestParseLayout(t *testing.T) {
	t.Parallel()
	const digest = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	for place, want := range map[string]string{
		"dir":                      "dir|latest|",
		"/a/b:1.3":                 "/a/b|1.3|",
		"/a/b@" + digest:           "/a/b||" + digest,
		"/a/b:1.3@" + digest:       "/a/b|1.3|" + digest,
		"/a@b/layout":              "/a@b/layout|latest|",
		"/a:b/layout":              "/a:b/layout|latest|",
		"a/layout@sha256:tooshort": "a/layout@sha256|tooshort|",
	} {
		dir, tag, d, err := parseLayout(place)
		if got := strings.Join([]string{dir, tag, d.String()}, "|"); got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", place, got, err, want)
		}
	}
}

func TestContextsInURLs(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]string{
		"https://github.com/o/r.git":        "moby.buildkit.frontend.contexts+forward",
		"https://github.com/o/r.git?ref=v1": "moby.buildkit.frontend.contexts+forward,moby.buildkit.frontend.gitquerystring+forward",
		"git@github.com:o/r.git":            "moby.buildkit.frontend.contexts+forward",
		"http://example.org/context.tar":    "moby.buildkit.frontend.contexts+forward",
	} {
		b := run{Request: Request{Inputs: inputs.Values{BuildContexts: []syntax.Pair{{Key: "more", Value: place}}}}}
		m := mounts{attrs: map[string]string{}}
		err := b.addContexts(&m)
		if err != nil || m.attrs["context:more"] != place || m.attrs["frontend.caps"] != want {
			t.Errorf("%s: %v, %v", place, m.attrs, err)
		}
	}
}
