// Package gateway is a small OCI registry on loopback in front of the stores, so that BuildKit can
// read and write all of them as registries, its best supported kind of cache.
//
// A build reads a cache that was merged in memory through the repository s0, and writes the
// scope b-feature of two stores through d0:
//
//	listener, err := builder.Listen(ctx) // on the loopback interface that the daemon has
//	g := gateway.Serve(listener)
//	defer g.Close()
//	ref := g.Offer(merged)            // registry ref=127.0.0.1:41235/s0:scopes
//	fanout := g.Accept(stores, blobs)
//	fanout.Ref("b-feature")           // registry ref=127.0.0.1:41235/d0:b-feature
//	fanout.Commit(ctx, write) // both stores name the cache b-feature
//
// It answers the requests of BuildKit's registry client (the OCI distribution
// specification v1.1, "Pull" and "Push" with a POST and one PUT), if they carry the
// password of the run. Plain HTTP never leaves 127.0.0.1.
package gateway

import (
	"cmp"
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
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
)

// Gateway serves the stores of one run. It is safe for concurrent use.
type Gateway struct {
	// Host is the address of its listener, for BuildKit: "127.0.0.1:41235".
	Host     string
	password string
	server   *http.Server
	served   chan error
	ctx      context.Context // ends with the gateway
	end      context.CancelFunc
	work     *semaphore.Weighted // a slot for each request in progress, and for each transfer that continues after one

	mu       sync.Mutex
	offered  map[string]Offered // by repository, as are
	accepted map[string]*Fanout
	lost     []digest.Digest
	why      map[digest.Digest]error // why each of them was lost
}

// Cache is a cache that BuildKit may import: its manifest and config are in memory, its blobs in
// stores.
type Cache struct {
	Manifest backends.Manifest
	Config   []byte
	Blobs    map[digest.Digest]Blob
}

// Blob is where a blob is, and its size in bytes.
type Blob struct {
	Store backends.Scopes
	Size  int64
}

// Offered waits until a cache is complete. It must be safe for concurrent use.
type Offered func(context.Context) (Cache, error)

// username goes with the password; BuildKit treats an empty one as anonymous.
const username = "warmlayer"

// workAtOnce is more than can be in progress at once.
const workAtOnce = 1 << 30

// Serve starts a gateway without repositories on a listener, which Close closes.
func Serve(listener net.Listener) *Gateway {
	ctx, end := context.WithCancel(context.Background())
	g := &Gateway{
		ctx: ctx, end: end,
		Host:     listener.Addr().String(),
		password: rand.Text(),
		served:   make(chan error, 1),
		work:     semaphore.NewWeighted(workAtOnce),
		offered:  map[string]Offered{},
		accepted: map[string]*Fanout{},
	}
	g.server = &http.Server{
		Handler: g.handler(), ConnContext: withConnection,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
	go func() {
		defer crash.Catch()
		g.served <- g.server.Serve(&bounded{Listener: listener})
	}()
	return g
}

// Credentials are the user name and password that BuildKit sends. The password is a secret of this
// run, and must be redacted.
func (g *Gateway) Credentials() (user, password string) { return username, g.password }

// Auth adds the gateway's own credentials to those of next.
func (g *Gateway) Auth(next authprovider.AuthConfigProvider) authprovider.AuthConfigProvider {
	return func(ctx context.Context, host string, scopes []string, expired authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
		if host == g.Host {
			return types.AuthConfig{ServerAddress: host, Username: username, Password: g.password}, nil
		}
		return next(ctx, host, scopes, expired)
	}
}

// begin runs work in a goroutine, and Close waits for it a while.
func (g *Gateway) begin(work func()) {
	if g.work.Acquire(g.ctx, 1) == nil {
		go func() {
			defer crash.Catch()
			defer g.work.Release(1)
			work()
		}()
	}
}

// Close ends the gateway and every transfer in progress. It waits for the transfers, but not longer
// than a store may take to clean up.
func (g *Gateway) Close() error {
	g.end()
	err := g.server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), cleanUp)
	defer cancel()
	_ = g.work.Acquire(ctx, workAtOnce) // after that time the process ends without them
	if served := <-g.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// Lost are the blobs that a store had when its scope was read, and later did not deliver to
// BuildKit, or delivered damaged. BuildKit gets them from no store again, and an export sends them
// again.
func (g *Gateway) Lost() []digest.Digest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.lost)
}

// Why is what the store answered when a blob was lost; nil for every other blob.
func (g *Gateway) Why(d digest.Digest) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why[d]
}

// lose records a blob as lost, unless the request's ctx has ended: after the client has
// disconnected, the store's error says nothing about the blob.
func (g *Gateway) lose(ctx context.Context, d digest.Digest, err error) {
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost = append(g.lost, d)
	if g.why == nil {
		g.why = map[digest.Digest]error{}
	}
	g.why[d] = cmp.Or(g.why[d], err)
}

func (g *Gateway) isLost(d digest.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.lost, d)
}

// Offer opens a cache for reading, and returns the reference to import it by. BuildKit's
// first request waits until the cache is complete.
func (g *Gateway) Offer(cache Offered) (ref string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	repo := fmt.Sprintf("s%d", len(g.offered))
	g.offered[repo] = cache
	return g.Host + "/" + repo + ":scopes"
}

// Accept opens a repository that receives one export for several stores. Most of its blobs are
// expected to be the given ones, so the stores are asked for all of these at once. A store that does
// not answer within stall, or accepts no data of a blob for as long, fails without the others; 0: no
// limit.
func (g *Gateway) Accept(stores []backends.Store, expected []ocispecs.Descriptor, stall time.Duration) *Fanout {
	g.mu.Lock()
	defer g.mu.Unlock()
	repo := fmt.Sprintf("d%d", len(g.accepted))
	f := newFanout(g, g.Host+"/"+repo, stores, expected, stall)
	g.accepted[repo] = f
	return f
}

// handler routes the requests that carry the password. The answer to any other request ends its
// connection.
func (g *Gateway) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v2/{repo}/manifests/{ref}", g.getManifest)
	mux.HandleFunc("PUT /v2/{repo}/manifests/{ref}", g.putManifest)
	mux.HandleFunc("GET /v2/{repo}/blobs/{digest}", g.getBlob)
	mux.HandleFunc("POST /v2/{repo}/blobs/uploads/", g.startUpload)
	mux.HandleFunc("PUT /v2/{repo}/blobs/uploads/{id}", g.putBlob)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer crash.Catch() // net/http would print a panic, and go on
		user, password, _ := r.BasicAuth()
		if user != username || subtle.ConstantTimeCompare([]byte(password), []byte(g.password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="warmlayer"`)
			w.Header().Set("Connection", "close")
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "this registry serves one build")
			return
		}
		connectionOf(r.Context()).authenticate()
		if g.work.Acquire(r.Context(), 1) != nil {
			panic(http.ErrAbortHandler) // the gateway ends
		}
		defer g.work.Release(1)
		mux.ServeHTTP(w, r)
	})
}

// refuse answers with an error in the distribution specification's form.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

// fail answers with a store's error: absent is 404, every other error 502.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, backends.ErrAbsent):
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", err.Error())
	case errors.Is(r.Context().Err(), context.Canceled):
		panic(http.ErrAbortHandler) // the client has disconnected
	default:
		refuse(w, http.StatusBadGateway, "UNKNOWN", err.Error())
	}
}
