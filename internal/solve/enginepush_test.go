package solve

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/inputs"
	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// pushedByEngine is a build on an engine's BuildKit, whose requests to push are answered by a function.
func pushedByEngine(t *testing.T, address string, push http.HandlerFunc) Request {
	t.Helper()
	e := inFront(t, address, map[string]http.HandlerFunc{"/push": push})
	b, err := builder.Open(t.Context(), builder.Options{Address: builderspec.Address{Kind: builderspec.Engine}, Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	r := request(t, testkit.StartBuildkitd(t), app(t, "LABEL a=b\n"))
	r.Builder = b
	r.Inputs.Outputs = []inputs.Output{{Type: client.ExporterImage, Attrs: map[string]string{"name": "r.example/shop:v1", "push": "true"}}}
	return r
}

// TestEnginePushFails: what the engine says of its push is the build's error.
func TestEnginePushFails(t *testing.T) {
	t.Parallel()
	address := testkit.StartDockerd(t)
	for said, want := range map[string]string{
		`{"status":"Pushing","id":"abc","progressDetail":{"current":5,"total":9}}{"errorDetail":{"message":"denied: no"},"error":"denied: no"}`: "failed to push r.example/shop:v1: denied: no",
		`{"status":"latest: pushed"}`: "failed to push r.example/shop:v1: the engine does not say under which digest",
		`{"status":`:                  "failed to push r.example/shop:v1: unexpected EOF",
	} {
		pushedByEngine(t, address, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, said) }).fails(t, want)
	}
}

// TestEnginePushHangs: the push of an engine that hangs ends with the build.
func TestEnginePushHangs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r := pushedByEngine(t, testkit.StartDockerd(t), func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := Run(ctx, r); err == nil {
		t.Error("the build succeeded")
	}
}
