package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli/config/types"
	"github.com/moby/buildkit/session/auth/authprovider"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestPassword(t *testing.T) {
	t.Parallel()
	s := testkit.NewStore()
	g, cache, _ := serve(t, s)
	user, password := g.Credentials()
	layer := cache.Manifest.Layers[0].Digest
	for _, route := range []string{
		"GET /v2/", "HEAD /v2/", "GET /", "GET /v2/_catalog",
		"GET /v2/s0/manifests/scopes", "HEAD /v2/s0/manifests/scopes", "GET /v2/s0/tags/list",
		"GET " + blobURL("s0", layer), "HEAD " + blobURL("s0", layer), "HEAD " + blobURL("d0", layer),
		"POST /v2/d0/blobs/uploads/", "POST /v2/d0/blobs/uploads/?from=s0&mount=" + layer.String(),
		"PUT /v2/d0/blobs/uploads/1?digest=" + digest.FromString("evil").String(),
		"PUT /v2/d0/manifests/b-main", "PATCH /v2/d0/blobs/uploads/1", "DELETE /v2/s0/manifests/scopes",
	} {
		for who, credentials := range map[string][2]string{
			"nobody": {}, "wrong password": {user, password + "x"}, "no password": {user, ""}, "no user": {"", password}, "another user": {"root", password},
		} {
			method, path, _ := strings.Cut(route, " ")
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.Host+path, strings.NewReader("evil"))
			if err != nil {
				t.Fatal(err)
			}
			if who != "nobody" {
				r.SetBasicAuth(credentials[0], credentials[1])
			}
			a := send(t, r)
			if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != `Basic realm="warmlayer"` || a.header.Get("Docker-Content-Digest") != "" {
				t.Errorf("%s as %s: %+v", route, who, a)
			}
		}
	}
	if s.Has("evil") {
		t.Error("a blob was written without the password")
	}
	if a := ask(t, g, "GET", "/v2/", nil); a.status != http.StatusOK {
		t.Errorf("with the password: %+v", a)
	}
}

func TestAuth(t *testing.T) {
	t.Parallel()
	g := testkit.Gateway(t)
	auth := g.Auth(func(_ context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
		return types.AuthConfig{ServerAddress: host, Username: "me"}, nil
	})
	user, password := g.Credentials()
	for host, want := range map[string]types.AuthConfig{
		g.Host:    {ServerAddress: g.Host, Username: user, Password: password},
		"ghcr.io": {ServerAddress: "ghcr.io", Username: "me"},
	} {
		if got, err := auth(t.Context(), host, nil, nil); err != nil || got != want {
			t.Errorf("%s: %+v, %v", host, got, err)
		}
	}
	if other, _ := testkit.Gateway(t).Credentials(); len(password) < 20 || other != user {
		t.Errorf("credentials %s, a password of %d characters", user, len(password))
	}
	if _, other := testkit.Gateway(t).Credentials(); other == password {
		t.Error("two runs share a password")
	}
}

func TestPull(t *testing.T) {
	t.Parallel()
	g, cache, _ := serve(t, testkit.NewStore())
	layer := cache.Manifest.Layers[0]
	whole := string("app by b-main")
	if layer.Digest != digest.FromString(whole) {
		t.Fatal(layer)
	}
	for _, test := range []struct {
		method, path, wanted string
		status               int
		body, contentRange   string
	}{
		{"GET", blobURL("s0", layer.Digest), "", 200, whole, ""},
		{"HEAD", blobURL("s0", layer.Digest), "", 200, "", ""},
		{"GET", blobURL("s0", layer.Digest), "bytes=0-", 200, whole, ""},
		{"GET", blobURL("s0", layer.Digest), "bytes=4-", 206, "by b-main", "bytes 4-12/13"},
		{"GET", blobURL("s0", layer.Digest), "bytes=4-5", 206, "by", "bytes 4-5/13"},
		{"GET", blobURL("s0", layer.Digest), "bytes=12-12", 206, "n", "bytes 12-12/13"},
		{"GET", blobURL("s0", layer.Digest), "bytes=4-999", 206, "by b-main", "bytes 4-12/13"},
		{"HEAD", blobURL("s0", layer.Digest), "bytes=4-5", 206, "", "bytes 4-5/13"},
		{"GET", blobURL("s0", layer.Digest), "bytes=13-", 416, "", ""},
		{"GET", blobURL("s0", layer.Digest), "bytes=5-4", 416, "", ""},
		{"GET", blobURL("s0", layer.Digest), "bytes=-5", 416, "", ""},
		{"GET", blobURL("s0", layer.Digest), "bytes=a-b", 416, "", ""},
		{"GET", blobURL("s0", layer.Digest), "bytes=4", 416, "", ""},
		{"GET", blobURL("s0", layer.Digest), "bytes=0-1,3-4", 416, "", ""},
		{"GET", blobURL("s0", layer.Digest), "4-5", 416, "", ""},
		{"GET", blobURL("s0", digest.FromString("other")), "", 404, "", ""},
		{"GET", blobURL("s1", layer.Digest), "", 404, "", ""},
		{"GET", "/v2/s0/blobs/sha256:zz", "", 400, "", ""},
		{"GET", blobURL("d0", layer.Digest), "", 404, "", ""},
		{"GET", "/v2/s1/manifests/scopes", "", 404, "", ""},
		{"GET", "/v2/d0/manifests/b-main", "", 404, "", ""},
		{"HEAD", "/v2/d0/manifests/b-main", "", 404, "", ""},
		{"POST", "/v2/s0/blobs/uploads/", "", 403, "", ""},
		{"PUT", "/v2/s0/blobs/uploads/1?digest=" + layer.Digest.String(), "", 400, "", ""},
		{"PUT", "/v2/s0/manifests/scopes", "", 403, "", ""},
	} {
		var headers []string
		if test.wanted != "" {
			headers = []string{"Range: " + test.wanted}
		}
		a := ask(t, g, test.method, test.path, nil, headers...)
		if a.status != test.status || a.header.Get("Content-Range") != test.contentRange || a.status < 300 && (a.body != test.body || a.err != nil) {
			t.Errorf("%s %s %s: %+v", test.method, test.path, test.wanted, a)
		}
		if a.status == 200 && a.header.Get("Docker-Content-Digest") != layer.Digest.String() {
			t.Errorf("%s %s: digest %s", test.method, test.path, a.header.Get("Docker-Content-Digest"))
		}
	}
	if lost := g.Lost(); len(lost) != 0 {
		t.Errorf("lost %v", lost)
	}
}

// TestContainerd pulls and pushes with the same client as BuildKit.
func TestContainerd(t *testing.T) {
	t.Parallel()
	s := testkit.NewStore()
	g, cache, fanout := serve(t, s)
	client := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
		docker.WithPlainHTTP(docker.MatchLocalhost),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(docker.WithAuthCreds(func(string) (string, string, error) {
			user, password := g.Credentials()
			return user, password, nil
		}))),
	)})

	ref, manifest, err := client.Resolve(t.Context(), g.Host+"/s0:scopes")
	if err != nil {
		t.Fatal(err)
	}
	fetcher, err := client.Fetcher(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range append([]ocispecs.Descriptor{manifest}, cache.Manifest.Layers...) {
		r, err := fetcher.Fetch(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		blob, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || digest.FromBytes(blob) != desc.Digest {
			t.Errorf("fetched %q, %v", blob, err)
		}
	}

	pusher, err := client.Pusher(t.Context(), fanout.Ref("b-main"))
	if err != nil {
		t.Fatal(err)
	}
	m, config, blobs := testkit.NewGraph("base", "app: base", "more: app").Cache(t, "b-main")
	blobs[m.Descriptor().Digest] = m.Raw
	present := 0
	for _, desc := range append(m.Blobs(), m.Descriptor()) {
		w, err := pusher.Push(t.Context(), desc)
		if errdefs.IsAlreadyExists(err) {
			present++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := content.Copy(t.Context(), w, bytes.NewReader(blobs[desc.Digest]), desc.Size, desc.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
		t.Errorf("before the commit: %v", err)
	}
	if errs := fanout.Commit(t.Context(), asSent(backends.Record{Result: "sha256:00"})); errs[0] != nil {
		t.Error(errs)
	}
	if present != 2 || !s.Has("more by b-main") || !s.Has(string(config)) {
		t.Errorf("%d blobs were present before the push", present)
	}
	if got, err := s.Manifest(t.Context(), "b-main"); err != nil || got.Record.Result != "sha256:00" || got.Config.Digest != m.Config.Digest {
		t.Errorf("committed %+v, %v", got, err)
	}
}

// A damaged copy is never delivered as complete, neither at once nor in ranges.
func TestDamagedBlob(t *testing.T) {
	t.Parallel()
	good := digest.FromString("app by b-main")
	broken := errors.New("disk error")
	for name, damage := range map[string]func(*testkit.Store){
		"other content": func(s *testkit.Store) { s.Set(good, []byte("app by b-mnia")) },
		"cut off":       func(s *testkit.Store) { s.Set(good, []byte("app by")) },
		"empty":         func(s *testkit.Store) { s.Set(good, []byte{}) },
		"gone":          func(s *testkit.Store) { s.Set(good, nil) },
		"unreadable":    func(s *testkit.Store) { s.OpenFault = broken },
		"breaks off": func(s *testkit.Store) {
			s.Stream = func(context.Context) io.ReadCloser {
				return io.NopCloser(io.MultiReader(strings.NewReader("app"), readerFunc(func([]byte) (int, error) { return 0, broken })))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testkit.NewStore()
			g, _, fanout := serve(t, s)
			damage(s)
			if a := ask(t, g, "GET", blobURL("s0", good), nil); a.status == 200 && a.err == nil {
				t.Errorf("it was delivered: %+v", a)
			}
			if lost := g.Lost(); !slices.Equal(lost, []digest.Digest{good}) {
				t.Errorf("lost %v", lost)
			}
			for _, wanted := range []string{"bytes=0-", "bytes=12-"} {
				if a := ask(t, g, "GET", blobURL("s0", good), nil, "Range: "+wanted); a.status != 404 {
					t.Errorf("the second request, %s: %+v", wanted, a)
				}
			}
			// The store may answer that it has the blob; an export must send it nevertheless.
			if a := ask(t, g, "HEAD", blobURL("d0", good), nil); a.status != 404 {
				t.Errorf("for an export: %+v", a)
			}
			if a := ask(t, g, "POST", "/v2/d0/blobs/uploads/?from=s0&mount="+good.String(), nil); a.status != 202 {
				t.Errorf("mounted: %+v", a)
			}
			if a := upload(t, g, "d0", good, strings.NewReader("app by b-main")); a.status != 201 || !arrives(t, fanout, s, "app by b-main") {
				t.Errorf("not repaired: %+v", a)
			}
		})
	}
}

// When a client disconnects, the blob does not count as lost.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	s := testkit.NewStore()
	g, cache, _ := serve(t, s)
	ctx, leave := context.WithCancel(t.Context())
	slow := blocking{leave: leave, closed: make(chan struct{})}
	s.Stream = func(served context.Context) io.ReadCloser {
		slow.served = served
		return slow
	}
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+g.Host+blobURL("s0", cache.Manifest.Layers[0].Digest), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(g.Credentials())
	if a := send(t, r); !errors.Is(a.err, context.Canceled) {
		t.Errorf("%+v", a)
	}
	<-slow.closed
	if lost := g.Lost(); len(lost) != 0 {
		t.Errorf("lost %v", lost)
	}
}

// blocking is a blob that is so slow that the client disconnects.
type blocking struct {
	served context.Context
	leave  context.CancelFunc
	closed chan struct{}
}

func (b blocking) Read([]byte) (int, error) {
	b.leave()
	<-b.served.Done()
	return 0, b.served.Err()
}

func (b blocking) Close() error {
	close(b.closed)
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestMemory streams a blob that is larger than the memory that a transfer may use. It is not
// parallel, since the memory of other tests would count.
func TestMemory(t *testing.T) {
	const size, bound = 256 << 20, 32 << 20
	hash := digest.Canonical.Digester()
	if _, err := io.CopyN(hash.Hash(), zeros{}, size); err != nil {
		t.Fatal(err)
	}
	blob := ocispecs.Descriptor{MediaType: ocispecs.MediaTypeImageLayer, Digest: hash.Digest(), Size: size}
	g, store, sink := testkit.Gateway(t), testkit.NewStore(), &sink{Store: testkit.NewStore()}
	cache := offered(t, store)
	cache.Blobs[blob.Digest] = gateway.Blob{Store: store, Size: size}
	store.Stream = func(context.Context) io.ReadCloser { return io.NopCloser(io.LimitReader(zeros{}, size)) }
	g.Offer(complete(cache))
	g.Accept([]backends.Store{sink, sink}, nil, time.Minute)

	for name, transfer := range map[string]func() (int64, error){
		"GET": func() (int64, error) {
			r := request(t, g, "GET", blobURL("s0", blob.Digest), nil)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				return 0, err
			}
			defer response.Body.Close()
			return io.Copy(io.Discard, response.Body)
		},
		"PUT": func() (int64, error) {
			r := request(t, g, "PUT", "/v2/d0/blobs/uploads/1?digest="+blob.Digest.String(), io.LimitReader(zeros{}, size))
			r.ContentLength = size
			a := send(t, r)
			if a.status != http.StatusCreated {
				return 0, fmt.Errorf("%+v", a)
			}
			return sink.received.Load() / 2, a.err
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := transfer()
		runtime.ReadMemStats(&after)
		if err != nil || n != size {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > bound {
			t.Errorf("%s of %d MiB allocated %d MiB", name, size>>20, grown>>20)
		}
	}
}

// zeros is an endless stream.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// sink is a store that only counts the bytes that it gets.
type sink struct {
	*testkit.Store
	received atomic.Int64
}

func (s *sink) Put(_ context.Context, _ ocispecs.Descriptor, r io.Reader) error {
	n, err := io.Copy(io.Discard, r)
	s.received.Add(n)
	return err
}

// BuildKit's request waits until the cache is complete, and fails when it never is.
func TestOfferIncomplete(t *testing.T) {
	t.Parallel()
	g, done := testkit.Gateway(t), make(chan error)
	g.Offer(func(ctx context.Context) (gateway.Cache, error) {
		select {
		case err := <-done:
			return gateway.Cache{}, err
		case <-ctx.Done():
			return gateway.Cache{}, context.Cause(ctx)
		}
	})
	asked := make(chan answer)
	go func() { asked <- ask(t, g, "GET", "/v2/s0/manifests/scopes", nil) }()
	select {
	case a := <-asked:
		t.Fatalf("before the cache is complete: %+v", a)
	case done <- errors.New("no merge"):
	}
	if a := <-asked; a.status != http.StatusBadGateway || !strings.Contains(a.body, "no merge") {
		t.Errorf("%+v", a)
	}
}
