// Package gateway is a small OCI registry on loopback in front of the stores, so
// that BuildKit speaks one backend, its best one, to all of them.
//
// A build with a cache in a directory reads the scopes b-feature and b-main, merged
// into one, through the repository s0, and writes b-feature through d0:
//
//	listener, err := builder.Listen(ctx) // on the loopback interface that the daemon has
//	g := gateway.Serve(listener)
//	defer g.Close()
//	caches := gateway.Connect(backends, plan, record, g)
//	imports := caches.Imports(ctx, sources) // registry ref=127.0.0.1:41235/s0:scopes
//	caches.Destinations[0].Entry            // registry ref=127.0.0.1:41235/d0:b-feature,compression=zstd,…
//	caches.Destinations[0].Commit(…)        // the directory's index names b-feature
//
// It answers what BuildKit's client of a registry asks (the OCI distribution
// specification v1.1, "Pull" and "Push" with a POST and one PUT), and nobody
// without the password of the run. Plain HTTP never leaves 127.0.0.1.
package gateway

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/docker/cli/cli/config/types"
	"github.com/moby/buildkit/session/auth/authprovider"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
)

// Gateway serves the stores of one run. Its methods may be called concurrently.
type Gateway struct {
	// Host is where it listens, as BuildKit knows it: "127.0.0.1:41235".
	Host     string
	password string
	server   *http.Server
	served   chan error
	ctx      context.Context // ends with the gateway
	end      context.CancelFunc

	mu           sync.Mutex
	sources      map[string]*merged // by repository, as are
	destinations map[string]*destination
	lost         []digest.Digest
}

// username goes with the password; BuildKit takes an empty one for anonymous.
const username = "warmlayer"

// Serve starts a gateway, with no store yet, on a listener that it closes in the end.
func Serve(listener net.Listener) *Gateway {
	ctx, end := context.WithCancel(context.Background())
	g := &Gateway{
		ctx: ctx, end: end,
		Host:         listener.Addr().String(),
		password:     rand.Text(),
		served:       make(chan error, 1),
		sources:      map[string]*merged{},
		destinations: map[string]*destination{},
	}
	g.server = &http.Server{Handler: g.handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { g.served <- g.server.Serve(listener) }()
	return g
}

// Credentials are the user name and password that BuildKit presents. The password
// is a secret of this run, and is to be redacted.
func (g *Gateway) Credentials() (user, password string) { return username, g.password }

// Auth adds the gateway's own credentials to those that next finds.
func (g *Gateway) Auth(next authprovider.AuthConfigProvider) authprovider.AuthConfigProvider {
	return func(ctx context.Context, host string, scopes []string, expired authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
		if host == g.Host {
			return types.AuthConfig{ServerAddress: host, Username: username, Password: g.password}, nil
		}
		return next(ctx, host, scopes, expired)
	}
}

// Close ends the gateway and every transfer under way.
func (g *Gateway) Close() error {
	g.end()
	err := g.server.Close()
	if served := <-g.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// Lost are the blobs that a store had when its scope was read, and could not
// hand out, or only damaged, when BuildKit wanted them. They are not tried again,
// and an export sends them anew.
func (g *Gateway) Lost() []digest.Digest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.lost)
}

// lose remembers a blob as lost, unless the client that ctx belongs to has left:
// the store's error then says nothing of the blob.
func (g *Gateway) lose(ctx context.Context, d digest.Digest) {
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost = append(g.lost, d)
}

func (g *Gateway) isLost(d digest.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.lost, d)
}

// addSource opens a merged cache for reading, and returns the reference to import it by.
func (g *Gateway) addSource(m *merged) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	repo := fmt.Sprintf("s%d", len(g.sources))
	g.sources[repo] = m
	return g.Host + "/" + repo + ":scopes"
}

// addDestination takes an export for several stores, of blobs that are mostly the
// expected ones, and returns the repository.
func (g *Gateway) addDestination(stores []backends.Store, expected []digest.Digest) (*destination, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	repo := fmt.Sprintf("d%d", len(g.destinations))
	d := newDestination(g.ctx, stores, expected, g.isLost)
	g.destinations[repo] = d
	return d, g.Host + "/" + repo
}

// handler routes the requests of those who know the password.
func (g *Gateway) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v2/{repo}/manifests/{ref}", g.getManifest)
	mux.HandleFunc("PUT /v2/{repo}/manifests/{ref}", g.putManifest)
	mux.HandleFunc("GET /v2/{repo}/blobs/{digest}", g.getBlob)
	mux.HandleFunc("POST /v2/{repo}/blobs/uploads/", g.startUpload)
	mux.HandleFunc("PUT /v2/{repo}/blobs/uploads/{id}", g.putBlob)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != username || subtle.ConstantTimeCompare([]byte(password), []byte(g.password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="warmlayer"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "this registry serves one build")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// refuse answers with an error in the distribution specification's form.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

// fail answers for a store: absent is 404, everything else the store's fault.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, backends.ErrAbsent):
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", err.Error())
	case errors.Is(r.Context().Err(), context.Canceled):
		panic(http.ErrAbortHandler) // nobody is there to read an answer
	default:
		refuse(w, http.StatusBadGateway, "UNKNOWN", err.Error())
	}
}
