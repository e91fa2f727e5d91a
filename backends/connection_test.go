package backends

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// A registry is pinged once for all calls, and asked for one token to read and one to write. A ping that
// fails is made again by the next call.
func TestConnection(t *testing.T) {
	t.Parallel()
	var pings, reading, writing atomic.Int64
	var down atomic.Bool
	down.Store(true)
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case down.Load():
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/token" && strings.HasSuffix(r.URL.Query().Get("scope"), ":pull"):
			reading.Add(1)
			_, _ = w.Write([]byte(`{"token":"reads"}`))
		case r.URL.Path == "/token":
			writing.Add(1)
			_, _ = w.Write([]byte(`{"token":"writes"}`))
		case r.URL.Path == pingPath:
			pings.Add(1)
			w.Header().Set("Www-Authenticate", `Bearer realm="http://`+host+`/token",service="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.Header.Get("Authorization") == "Bearer reads" && r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			_, _ = w.Write([]byte("{}"))
		default:
			t.Errorf("%s %s with %q", r.Method, r.URL.Path, r.Header.Get("Authorization"))
		}
	}))
	defer server.Close()
	host = strings.TrimPrefix(server.URL, "http://")
	repository, err := name.NewRepository(host + "/o/app")
	if err != nil {
		t.Fatal(err)
	}
	c := newConnection(repository, authn.DefaultKeychain, remote.DefaultTransport)
	if _, err := c.options(t.Context(), transport.PullScope); err == nil {
		t.Error("a registry that refuses its ping is connected")
	}
	down.Store(false)
	for range 3 {
		options, err := c.options(t.Context(), transport.PullScope)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Get(repository.Tag("v1"), options...); err != nil {
			t.Error(err)
		}
		if _, err := c.options(t.Context(), transport.PushScope); err != nil {
			t.Error(err)
		}
	}
	if pings.Load() != 1 || reading.Load() != 1 || writing.Load() != 1 {
		t.Errorf("%d pings, %d tokens to read and %d to write", pings.Load(), reading.Load(), writing.Load())
	}
	ended, end := context.WithCancel(t.Context())
	end()
	c.busy <- struct{}{}
	if _, err := c.options(ended, transport.PullScope); err == nil {
		t.Error("a call waits although its context has ended")
	}
}
