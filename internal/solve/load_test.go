package solve

import (
	"archive/tar"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/engineapi"
	"github.com/warmlayer/warmlayer/internal/syntax"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// loadRequest is a build that loads an image into an engine under two names.
func loadRequest(t *testing.T, e engineapi.Place) Request {
	t.Helper()
	r := request(t, testkit.StartBuildkitd(t), app(t, "FROM base\nRUN echo built > /built\nLABEL a=b\n"))
	r.Engine = e
	r.Inputs.Outputs = []inputs.Output{{Type: "docker", Attrs: map[string]string{"name": "docker.io/library/shop:v1,docker.io/library/shop:latest"}}}
	return r
}

// TestLoad: the engine has the image under all of its names, with the ID in the result.
func TestLoad(t *testing.T) {
	t.Parallel()
	address := testkit.StartDockerd(t)
	r := loadRequest(t, engineapi.Place{Host: address})
	var shown strings.Builder
	r.Progress = &shown
	r.Inputs.Attests = inputs.Attestations{{Type: "provenance", Attrs: []syntax.Pair{{Key: "mode", Value: "min"}, {Key: "inline-only", Value: "true"}}}}
	result := r.must(t)
	for _, name := range []string{"shop:v1", "shop:latest"} {
		image, err := testkit.Engine(t, address).ImageInspect(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if image.ID != result.ImageID.String() || image.Config.Labels["a"] != "b" || len(image.RootFS.Layers) != 2 {
			t.Errorf("%s is %s, want %s: %v", name, image.ID, result.ImageID, image.RootFS)
		}
	}
	for _, words := range []string{"importing to docker", "loading layer "} {
		if !strings.Contains(shown.String(), words) {
			t.Errorf("the progress has no %q:\n%s", words, &shown)
		}
	}
	if result.Metadata["image.name"] != "docker.io/library/shop:v1,docker.io/library/shop:latest" {
		t.Errorf("metadata %v", result.Metadata)
	}
}

// TestLoadByContext: the engine is found by the rules of the docker program.
func TestLoadByContext(t *testing.T) {
	t.Parallel()
	address, dir := testkit.StartDockerd(t), t.TempDir()
	contexts := store.New(filepath.Join(dir, "contexts"), store.NewConfig(func() any { return &map[string]any{} }))
	err := contexts.CreateOrUpdate(store.Metadata{Name: "away", Endpoints: map[string]any{docker.DockerEndpoint: docker.EndpointMeta{Host: address}}})
	if err != nil {
		t.Fatal(err)
	}
	e := engineapi.Place{Context: "away", ConfigDir: dir}
	if got := e.Address(); got != address {
		t.Errorf("address %s, want %s", got, address)
	}
	r := loadRequest(t, e)
	id := r.must(t).ImageID.String()
	if image, err := testkit.Engine(t, address).ImageInspect(t.Context(), "shop"); err != nil || image.ID != id {
		t.Errorf("image %s, want %s: %v", image.ID, id, err)
	}
	// An output may name another engine.
	r.Engine.Context = ""
	r.Inputs.Outputs[0].Attrs["context"] = "away"
	r.must(t)
}

// TestCannotLoad: the problem is found before the build starts, and has a hint.
func TestCannotLoad(t *testing.T) {
	t.Parallel()
	nowhere := "unix://" + filepath.Join(t.TempDir(), "docker.sock")
	tests := []struct {
		name   string
		engine engineapi.Place
		words  []string
	}{
		{"no engine", engineapi.Place{Host: nowhere}, []string{"load: no container engine answers at " + nowhere + ": ", "\nhint: set DOCKER_HOST"}},
		{"no such context", engineapi.Place{Context: "away", ConfigDir: t.TempDir()}, []string{"load: find container engine: ", `"away"`, "\nhint: "}},
		{"no certificates", engineapi.Place{Host: "tcp://127.0.0.1:1", CertDir: t.TempDir(), Verify: true}, []string{"load: find container engine: ", "ca.pem", "\nhint: "}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := loadRequest(t, test.engine)
			if steps := r.fails(t, test.words...).Steps; len(steps) > 0 {
				t.Errorf("steps ran: %v", steps)
			}
		})
	}
	t.Run("an index", func(t *testing.T) {
		t.Parallel()
		r := loadRequest(t, engineapi.Place{Host: testkit.StartDockerd(t)})
		r.Inputs.Attests = inputs.Attestations{{Type: "provenance", Attrs: []syntax.Pair{{Key: "mode", Value: "max"}}}}
		r.fails(t, "load: this engine takes an image of one platform without attestations\nhint: ")
	})
}

// TestLoadFails: the engine refuses the image, at once or while it is sent.
func TestLoadFails(t *testing.T) {
	t.Parallel()
	address := testkit.StartDockerd(t)
	for name, answer := range map[string]http.HandlerFunc{
		"at once": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"message":"no space left on device"}`)
		},
		"while it is sent": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, 1000)
			_, _ = io.WriteString(w, `{"status":"Loading layer","id":"abc","progressDetail":{"current":5,"total":9}}`+
				`{"errorDetail":{"message":"no space left on device"},"error":"no space left on device"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := loadRequest(t, inFront(t, address, map[string]http.HandlerFunc{"/images/load": answer}))
			r.fails(t, "load image into engine: ", "no space left on device")
		})
	}
}

// TestLoadHangs: loading into an engine that hangs ends with the build.
func TestLoadHangs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	e := inFront(t, testkit.StartDockerd(t), map[string]http.HandlerFunc{
		"/images/load": func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
	})
	if _, err := Run(ctx, loadRequest(t, e)); err == nil {
		t.Error("the build succeeded")
	}
}

// TestLoadIndex: an engine whose images are in containerd's store gets an OCI layout, which may
// contain an index, and uses its digest as the ID. Debian's engine has no such store, so the test
// answers for it.
func TestLoadIndex(t *testing.T) {
	t.Parallel()
	var files []string
	e := inFront(t, testkit.StartDockerd(t), map[string]http.HandlerFunc{
		"/info": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}`)
		},
		"/images/load": func(w http.ResponseWriter, r *http.Request) {
			archive := tar.NewReader(r.Body)
			for h, err := archive.Next(); err == nil; h, err = archive.Next() {
				files = append(files, h.Name)
			}
			_, _ = io.WriteString(w, `{"stream":"Loaded image: shop:v1"}`)
		},
	})
	r := loadRequest(t, e)
	r.Inputs.Attests = inputs.Attestations{{Type: "provenance", Attrs: []syntax.Pair{{Key: "mode", Value: "max"}}}}
	result := r.must(t)
	if !slices.Contains(files, "index.json") || slices.Contains(files, "manifest.json") {
		t.Errorf("the loaded files are %v", files)
	}
	if result.ImageID != result.Digest || result.Digest == "" {
		t.Errorf("image %s, its ID %s", result.Digest, result.ImageID)
	}
	r.Inputs.Attests = nil
	if result := r.must(t); result.ImageID != result.Digest || result.ImageID.String() == result.Metadata["containerimage.config.digest"] {
		t.Errorf("image %s, its ID %s", result.Digest, result.ImageID)
	}
}

// inFront is a proxy for an engine that answers some requests itself.
func inFront(t *testing.T, address string, answers map[string]http.HandlerFunc) engineapi.Place {
	t.Helper()
	through := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(address, "unix://"))
		}},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for path, answer := range answers {
			if strings.HasSuffix(r.URL.Path, path) {
				answer(w, r)
				return
			}
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return engineapi.Place{Host: "tcp://" + server.Listener.Addr().String()}
}
