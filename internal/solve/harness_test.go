package solve_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// fixed makes the digests of equal images equal, independent of who ran their steps and when. It
// rewrites layers, so the digest depends on the content that a cache delivered.
var fixed = []string{"--build-args", "SOURCE_DATE_EPOCH=1", "--outputs", "type=oci,dest=../image.tar,rewrite-timestamp=true"}

// build is one build of an app as branch main, on an empty builder.
func build(app string, args ...string) testkit.Invocation {
	return testkit.Invocation{Dir: app, Branch: "main", Args: args}
}

// change makes the build run steps that need layers of a cache.
func change(t *testing.T, app string) {
	t.Helper()
	testkit.Write(t, filepath.Join(app, "site", "index.txt"), "Changed\n\nThis page is another one.\n")
}

// rightDigest is the image of the changed app, from a build without a cache.
var rightDigest = func() func(*testing.T) string {
	var once sync.Once
	var right string
	return func(t *testing.T) string {
		t.Helper()
		once.Do(func() {
			app := testkit.App(t)
			change(t, app)
			right = build(app, append(fixed, "--cache", "none")...).Build(t).Digest
		})
		if right == "" {
			t.Fatal("the build without a cache has no image")
		}
		return right
	}
}()

func allCached(t *testing.T, r testkit.Report) {
	t.Helper()
	if len(r.Steps) == 0 || r.Cached() < len(r.Steps) {
		t.Errorf("%d of %d steps cached", r.Cached(), len(r.Steps))
	}
}

// proxy is a registry, or another server, behind a proxy that answers some requests itself, as tests
// tell it.
type proxy struct {
	Host string // "127.0.0.1:40001"

	mu    sync.Mutex
	fault func(*http.Request) http.HandlerFunc
}

// newProxy is a registry behind a proxy that forwards all requests.
func newProxy(t *testing.T) *proxy {
	t.Helper()
	return newProxyBefore(t, testkit.StartRegistry(t).Host)
}

// newProxyBefore is a proxy before any server: "127.0.0.1:40001".
func newProxyBefore(t *testing.T, address string) *proxy {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: address}
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // so that the URLs of uploads lead to the proxy
	}}
	p := &proxy{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		fault := p.fault
		p.mu.Unlock()
		if fault != nil {
			if answer := fault(r); answer != nil {
				answer(w, r)
				return
			}
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	p.Host = server.Listener.Addr().String()
	return p
}

// misbehave sets the answer for the requests that match, from now on.
func (p *proxy) misbehave(answer http.HandlerFunc, match ...func(*http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = func(r *http.Request) http.HandlerFunc {
		for _, m := range match {
			if !m(r) {
				return nil
			}
		}
		return answer
	}
}

func (p *proxy) behave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = nil
}

func method(methods ...string) func(*http.Request) bool {
	return func(r *http.Request) bool { return slices.Contains(methods, r.Method) }
}

func path(part string) func(*http.Request) bool {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) }
}

// byBuildKit tells the requests of the daemon from those of warmlayer.
func byBuildKit(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "buildkit/") }

// blob matches the requests for one of the blobs.
func blob(digests ...digest.Digest) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/blobs/") && slices.Contains(digests, digest.Digest(filepath.Base(r.URL.Path)))
	}
}

// status answers with a status and an error in the registry's form.
func status(code int, name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"errors":[{"code":"`+name+`","message":"so it was told"}]}`)
	}
}

// hang reads a request and never answers.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// sending answers with a body, complete or shorter than announced.
func sending(body string, announced int64) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(announced, 10))
		_, _ = io.WriteString(w, body)
		if int64(len(body)) < announced {
			panic(http.ErrAbortHandler)
		}
	}
}

// get returns the body at a path.
func (p *proxy) get(t *testing.T, path string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", ocispecs.MediaTypeImageManifest+","+ocispecs.MediaTypeImageIndex)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	if err != nil {
		t.Fatalf("get %s: %v", path, err)
	}
	return string(body)
}

// cache is a cache line for a repository.
func (p *proxy) cache(repo string) testkit.Cache {
	return testkit.Cache{Line: "type=registry,ref=" + p.Host + "/" + repo, Image: p.Host + "/" + repo}
}

// manifest is the manifest of a scope in a cache.
func manifest(t *testing.T, c testkit.Cache, name string) backends.Manifest {
	t.Helper()
	m, err := c.Scopes(t).Manifest(t.Context(), scope.Name(name))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// damage changes the last byte of a file.
func damage(t *testing.T, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err == nil && len(content) == 0 {
		err = errors.New("the file is empty")
	}
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1]++
	testkit.Write(t, file, string(content))
}
