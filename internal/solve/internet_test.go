package solve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// internet stands in for the registries outside: a proxy that a daemon's TLS connections go
// through, with these hosts behind it.
//
//	registry-1.docker.io  Docker Hub, as [answer] has it
//	selfsigned.test       a certificate that no authority has signed
//	plain.test            HTTP where HTTPS is expected
type internet struct {
	Daemon string // the address of a daemon that reaches no other network
	Proxy  string // the URL of the proxy
	Plain  string // a server of files and registry answers over HTTP: "127.0.0.1:40001"
}

// newInternet starts the servers and a daemon that trusts the certificate of Docker Hub's.
func newInternet(t *testing.T) *internet {
	t.Helper()
	i := &internet{}
	known, authority := certificate(t, "registry-1.docker.io")
	unknown, _ := certificate(t, "selfsigned.test")
	plain := httptest.NewServer(http.HandlerFunc(i.answer))
	i.Plain = plain.Listener.Addr().String()
	proxy := httptest.NewServer(tunnel(map[string]string{
		"registry-1.docker.io:443": i.secure(t, known), "selfsigned.test:443": i.secure(t, unknown),
		"plain.test:443": i.Plain,
	}))
	t.Cleanup(func() { plain.Close(); proxy.Close() })
	dir := t.TempDir()
	testkit.Write(t, filepath.Join(dir, "ca.pem"), string(authority))
	testkit.Write(t, filepath.Join(dir, "buildkitd.toml"), fmt.Sprintf("[registry.\"docker.io\"]\nca = [%q]\n", filepath.Join(dir, "ca.pem")))
	i.Proxy = proxy.URL
	i.Daemon = testkit.StartBuildkitdIn(t, []string{"HTTPS_PROXY=" + proxy.URL, "NO_PROXY=.invalid"}, "--config="+filepath.Join(dir, "buildkitd.toml"))
	return i
}

// certificate is one for a host, and itself as an authority in PEM.
func certificate(t *testing.T, host string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// secure is the address of a registry with a certificate.
func (i *internet) secure(t *testing.T, c tls.Certificate) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(i.answer))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{c}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients are to refuse the certificate
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// tunnel is an HTTP proxy to known hosts.
func tunnel(hosts map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		there, ok := hosts[r.Host]
		if r.Method != http.MethodConnect || !ok {
			http.Error(w, "unknown host "+r.Host, http.StatusBadGateway)
			return
		}
		out, err := net.Dial("tcp", there)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer out.Close()
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(out, in); out.Close() }()
		_, _ = io.Copy(in, out)
	})
}

// answer is a registry, and a server of files, where the first part of a path is the answer: 403
// for s403/app. Every other repository is refused as Docker Hub refuses one that does not exist.
func (i *internet) answer(w http.ResponseWriter, r *http.Request) {
	errorCodes := map[int]string{401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS"}
	code := http.StatusUnauthorized
	if found := answerCode.FindStringSubmatch(r.URL.Path); found != nil {
		code, _ = strconv.Atoi(found[1])
	}
	switch {
	case r.URL.Path == "/v2/":
		return
	case r.URL.Path == "/file":
		_, _ = io.WriteString(w, "content")
		return
	case r.URL.Path == "/token":
		_, _ = io.WriteString(w, `{"token":"x"}`)
		return
	case code == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+i.Plain+`/token",service="registry",scope="repository:x:pull",error="insufficient_scope"`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"so it was told"}]}`, errorCodes[code])
	}
}

var answerCode = regexp.MustCompile(`/s(\d{3})(?:/|$)`)
