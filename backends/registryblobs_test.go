package backends_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestRegistryPut: a small blob is sent with two requests, and to a registry that takes no blob whole with those of
// package remote.
func TestRegistryPut(t *testing.T) {
	t.Parallel()
	server := testkit.StartRegistry(t)
	for name, test := range map[string]struct {
		refuses int // the answer to a blob that is sent whole; 0: none
		want    string
	}{
		"whole":   {0, "POST PUT"},
		"pieces":  {http.StatusMethodNotAllowed, "POST PUT HEAD POST PATCH PUT"},
		"refused": {http.StatusForbidden, "POST PUT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: server.Host})
				r.Out.Host = r.In.Host
			}}
			var mu sync.Mutex
			var methods []string
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/blobs/") {
					mu.Lock()
					methods = append(methods, r.Method)
					mu.Unlock()
				}
				if test.refuses != 0 && r.Method == http.MethodPut && r.ContentLength > 0 {
					w.WriteHeader(test.refuses)
					return
				}
				through.ServeHTTP(w, r)
			}))
			defer proxy.Close()
			content := "blob of " + name
			desc := ocispecs.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString(content), Size: int64(len(content))}
			store := registryAt(t, nil, host(proxy)+"/o/put", "").(backends.Store)
			err := store.Put(t.Context(), desc, strings.NewReader(content))
			mu.Lock()
			got := strings.Join(methods, " ")
			mu.Unlock()
			if got != test.want || (err != nil) != (test.refuses == http.StatusForbidden) {
				t.Errorf("%s, %v, want %s", got, err, test.want)
			}
			if err == nil && read(t, store, desc.Digest, 2) != content[2:] {
				t.Error("another blob is stored")
			}
		})
	}
}
