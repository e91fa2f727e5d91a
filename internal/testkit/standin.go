package testkit

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	digest "github.com/opencontainers/go-digest"
)

// Quirk is how a product differs from the server that a stand-in is a proxy of. It answers a
// request in the product's words, or returns nil for a request that the server answers.
type Quirk func(*http.Request) http.HandlerFunc

// StandIn is a server with the quirks of another product: a reverse proxy in front of a real
// server, which answers some requests itself.
type StandIn struct {
	Host string // "127.0.0.1:40001"
}

// StartStandIn starts a stand-in, with HTTP, for the server at an address, until the test's end.
func StartStandIn(t testing.TB, address string, quirks ...Quirk) *StandIn {
	t.Helper()
	s := &StandIn{}
	server := httptest.NewServer(handler(address, quirks))
	s.Host = server.Listener.Addr().String()
	end(t, server)
	return s
}

// StartPrivateCA starts a stand-in that speaks TLS with a certificate of its own authority, like
// a company's proxy, and returns this authority's certificate in PEM.
func StartPrivateCA(t testing.TB, address string, quirks ...Quirk) (s *StandIn, authority string) {
	t.Helper()
	s = &StandIn{}
	server := httptest.NewUnstartedServer(handler(address, quirks))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not know the authority
	server.StartTLS()
	s.Host = server.Listener.Addr().String()
	end(t, server)
	return s, certificate(server.Certificate())
}

func certificate(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func end(t testing.TB, server *httptest.Server) {
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
}

func handler(address string, quirks []Quirk) http.Handler {
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: address})
		r.Out.Host = r.In.Host // signatures cover it, and uploads continue there
		r.SetXForwarded()      // a registry's locations have the scheme of the client
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, quirk := range quirks {
			if answer := quirk(r); answer != nil {
				answer(w, r)
				_, _ = io.Copy(io.Discard, r.Body) // where nothing has read it
				return
			}
		}
		through.ServeHTTP(w, r)
	})
}

// Refusal answers with a status and an error in the form of the distribution specification.
// The detail may be "".
func Refusal(status int, code, message, detail string) http.HandlerFunc {
	type fault struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  string `json:"detail,omitempty"`
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string][]fault{"errors": {{code, message, detail}}})
	}
}

// UnknownSubject is GitLab's registry: it takes no manifest whose subject it does not have, with
// the error that distribution gives for a missing layer (moby/buildkit#7007; distribution v3.1.2,
// internal/client, registry/api/errcode). BuildKit pushes an image and its attestation in an order
// that varies. Here the attestation always comes too early: a subject is missing until a tag has
// been pushed after it.
func UnknownSubject() Quirk {
	var mu sync.Mutex
	known, pushed := map[string]bool{}, []string(nil)
	return func(r *http.Request) http.HandlerFunc {
		_, name, found := strings.Cut(r.URL.Path, "/manifests/")
		if !found || r.Method != http.MethodPut {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		var manifest struct{ Subject struct{ Digest string } }
		body := peek(r)
		if err := json.Unmarshal(body, &manifest); err == nil && manifest.Subject.Digest != "" && !known[manifest.Subject.Digest] {
			return Refusal(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", manifest.Subject.Digest)
		}
		pushed = append(pushed, digest.FromBytes(body).String())
		if !strings.Contains(name, ":") {
			for _, d := range pushed {
				known[d] = true
			}
			pushed = nil
		}
		return nil
	}
}

// peek reads the body of a request, which stays to be read.
func peek(r *http.Request) []byte {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client has given up, as at the end of a test
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// Refuse answers the requests of some methods ("PUT") whose path contains a part ("/v2/cache/").
func Refuse(answer http.HandlerFunc, part string, methods ...string) Quirk {
	return func(r *http.Request) http.HandlerFunc {
		if strings.Contains(r.URL.Path, part) && slices.Contains(methods, r.Method) {
			return answer
		}
		return nil
	}
}

// Busy answers the first requests of a method whose path contains a part with 429 (RFC 6585),
// with a Retry-After in seconds, or "" for none.
func Busy(first int, retryAfter, part, method string) Quirk {
	var left atomic.Int64
	left.Store(int64(first))
	refused := Refusal(http.StatusTooManyRequests, "TOOMANYREQUESTS", "rate limit exceeded", "")
	return func(r *http.Request) http.HandlerFunc {
		if r.Method != method || !strings.Contains(r.URL.Path, part) || left.Add(-1) < 0 {
			return nil
		}
		return func(w http.ResponseWriter, r *http.Request) {
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			refused(w, r)
		}
	}
}

// ImmutableTags is a registry that takes each tag with a prefix once.
func ImmutableTags(answer http.HandlerFunc, prefix string) Quirk {
	var mu sync.Mutex
	taken := map[string]bool{}
	return func(r *http.Request) http.HandlerFunc {
		_, tag, found := strings.Cut(r.URL.Path, "/manifests/")
		if !found || r.Method != http.MethodPut || !strings.HasPrefix(tag, prefix) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if taken[r.URL.Path] {
			return answer
		}
		taken[r.URL.Path] = true
		return nil
	}
}

// Nexus is Sonatype's registry: it mounts no layer from another repository (401), and takes one
// upload at a time (400; sonatype/nexus-public#967).
func Nexus() Quirk {
	return func(r *http.Request) http.HandlerFunc {
		switch {
		case r.Method == http.MethodPost && r.URL.Query().Get("mount") != "":
			return Refusal(http.StatusUnauthorized, "UNAUTHORIZED", "access to the requested resource is not authorized", "")
		case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/cache/blobs/uploads/"):
			return Refusal(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "blob upload invalid", "")
		}
		return nil
	}
}

// ImagesOnly is a registry that takes no index with other entries than images: Harbor before 2.11,
// ECR, Google's old registry and others (goharbor/harbor#14774, moby/buildkit#1143, #2251).
func ImagesOnly(answer http.HandlerFunc) Quirk {
	return func(r *http.Request) http.HandlerFunc {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			return nil
		}
		var index struct{ Manifests []struct{ MediaType string } }
		if json.Unmarshal(peek(r), &index) != nil {
			return nil
		}
		for _, m := range index.Manifests {
			if !strings.Contains(m.MediaType, ".manifest.") {
				return answer
			}
		}
		return nil
	}
}
