package builder_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/engineapi"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestInEngine: the BuildKit inside an engine is no managed builder.
func TestInEngine(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	for program, containerd := range map[string]bool{"dockerd": false, "moby-dockerd": true} {
		o := builder.Options{
			Address: builderspec.Address{Kind: builderspec.Engine},
			Engine:  engineapi.Place{Host: testkit.StartEngine(t, program, `{}`)},
			Managed: builderspec.Managed{State: builderspec.State{Dir: t.TempDir()}},
		}
		b, err := builder.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if b.Managed || b.Address != "engine" || b.Inside.Containerd != containerd || len(b.Platforms) == 0 || b.Instead != "" || !strings.HasSuffix(b.State, "the builder is the container engine's") {
			t.Errorf("%s: %+v, %+v", program, b, b.Inside)
		}
		if _, err := b.Listen(t.Context()); err == nil {
			t.Errorf("%s: it listens", program)
		}
		closeTimely(t, b)
	}
}

// TestNoBuildKitInEngine: Podman's service, for one, speaks the engine's API and has no BuildKit.
func TestNoBuildKitInEngine(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			w.Header().Set("Api-Version", "1.41")
		case strings.HasSuffix(r.URL.Path, "/info"):
			_, _ = w.Write([]byte("{}"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	place := engineapi.Place{Host: "tcp://" + server.Listener.Addr().String()}
	_, err := builder.Open(t.Context(), builder.Options{Address: builderspec.Address{Kind: builderspec.Engine}, Engine: place})
	if err == nil || !strings.HasPrefix(err.Error(), "builder: no BuildKit answers inside the container engine at "+place.Host+": ") ||
		!strings.Contains(err.Error(), "404") || !strings.Contains(err.Error(), "\nhint: use an engine with BuildKit, as Docker 20.10 and later have") {
		t.Errorf("%v", err)
	}
}
