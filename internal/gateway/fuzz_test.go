package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// raw sends a request as it is written, with the gateway's password, and returns the answer.
func raw(t testing.TB, host, user, password, method, path, headers string, body []byte) (status int, header http.Header, answer []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n", method, path, auth, len(body), headers)
	if _, err := conn.Write(append([]byte(head), body...)); err != nil {
		return 0, nil, nil // the gateway has refused the request's head
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return 0, nil, nil // it has closed the connection
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, nil
	}
	return response.StatusCode, response.Header, answer
}

// FuzzHandler sends requests of any form. A blob is never delivered as another, what is stored has
// its digest, a range is the one that Go's file server delivers, and nothing panics.
func FuzzHandler(f *testing.F) {
	var printed bytes.Buffer
	log.SetOutput(&printed) // of net/http, when a handler panics
	f.Cleanup(func() { log.SetOutput(io.Discard) })
	m, config, blobs := app.Cache(f, "b-main")
	layer := m.Layers[0].Digest
	sum := digest.FromString("new").String()
	for _, one := range []struct{ method, path, header, body string }{
		{"GET", "/v2/", "", ""}, {"GET", "/v2/s0/manifests/scopes", "", ""}, {"HEAD", "/v2/s0/manifests/x", "", ""},
		{"GET", "/v2/s0/blobs/" + layer.String(), "Range: bytes=2-", ""}, {"GET", "/v2/s0/blobs/" + layer.String(), "Range: bytes=1-3", ""},
		{"GET", "/v2/s0/blobs/" + layer.String(), "Range: bytes=9-1", ""}, {"GET", "/v2/s0/blobs/" + layer.String(), "Range: bytes=-2", ""},
		{"GET", "/v2/s0/blobs/" + layer.String(), "Range: bytes=0-9223372036854775807", ""}, {"HEAD", "/v2/s0/blobs/" + layer.String(), "Range: bytes=0-0", ""},
		{"GET", "/v2/s0/blobs/" + m.Config.Digest.String(), "", ""}, {"HEAD", "/v2/d0/blobs/" + layer.String(), "", ""},
		{"POST", "/v2/d0/blobs/uploads/?mount=" + layer.String(), "", ""}, {"PUT", "/v2/d0/blobs/uploads/x?digest=" + sum, "", "new"}, {"PUT", "/v2/d0/blobs/uploads/x?digest=" + sum, "", "old"},
		{"PUT", "/v2/d0/manifests/b-main", "Content-Type: " + m.MediaType, string(m.Raw)}, {"PUT", "/v2/d0/manifests/b-main", "Content-Type: x", "{}"}, {"PATCH", "/v2/../x", "X: y", ""},
		{"PUT", "/v2/d0/blobs/uploads/x?digest=sha512:00", "Transfer-Encoding: chunked", "3\r\nnew\r\n0\r\n\r\n"},
	} {
		f.Add(one.method, one.path, one.header, []byte(one.body))
	}
	f.Fuzz(func(t *testing.T, method, path, header string, body []byte) {
		store := testkit.NewStore()
		g, _, _ := serve(t, store)
		if header != "" {
			header += "\r\n"
		}
		user, password := g.Credentials()
		status, headers, answer := raw(t, g.Host, user, password, method, path, header, body)
		if strings.Contains(printed.String(), "panic") {
			t.Fatal(printed.String())
		}
		if status >= 500 && status != http.StatusNotImplemented && status != http.StatusHTTPVersionNotSupported {
			t.Errorf("%s %s: %d %s", method, path, status, answer)
		}
		d, named := strings.CutPrefix(path, "/v2/s0/blobs/")
		if content, ok := blobs[digest.Digest(d)]; named && ok && method == "GET" && (status == http.StatusOK || status == http.StatusPartialContent) {
			checkDelivered(t, content, header, status, headers, answer)
		}
		if status == http.StatusOK && method == "GET" && strings.HasPrefix(path, "/v2/s0/manifests/") && !bytes.Equal(answer, m.Raw) && len(answer) > 0 {
			t.Errorf("the manifest is %q", answer)
		}
		checkStored(t, store, append(bytes.Clone(config), body...), blobs)
	})
}

// checkDelivered compares the answer to a request for a blob with that of Go's file server.
func checkDelivered(t *testing.T, content []byte, header string, status int, headers http.Header, answer []byte) {
	t.Helper()
	name, value, _ := strings.Cut(strings.TrimSuffix(header, "\r\n"), ":")
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if strings.EqualFold(name, "range") {
		r.Header.Set("Range", strings.TrimSpace(value))
	}
	w := httptest.NewRecorder()
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	if status == http.StatusPartialContent && (w.Code != status || w.Header().Get("Content-Range") != headers.Get("Content-Range") || !bytes.Equal(w.Body.Bytes(), answer)) {
		t.Errorf("%q: %q %s, and in Go %d %q %s", header, answer, headers.Get("Content-Range"), w.Code, w.Body, w.Header().Get("Content-Range"))
	}
	if status == http.StatusOK && !bytes.Equal(answer, content) {
		t.Errorf("%q: %q instead of %q", header, answer, content)
	}
}

// checkStored checks that the store holds nothing under a false digest.
func checkStored(t *testing.T, store *testkit.Store, sent []byte, blobs map[digest.Digest][]byte) {
	t.Helper()
	for n := range len(sent) + 1 {
		d := digest.FromBytes(sent[n:])
		if _, own := blobs[d]; own || len(sent)-n > 64 {
			continue
		}
		content, err := store.Open(context.Background(), d, 0)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(content)
		if err != nil || digest.FromBytes(text) != d {
			t.Errorf("the blob %s is %q, %v", d, text, err)
		}
	}
}

// FuzzPassword: without the password nothing but the refusal is answered.
func FuzzPassword(f *testing.F) {
	f.Add("warmlayer", "", "/v2/")
	f.Add("", "x", "/v2/s0/manifests/scopes")
	store := testkit.NewStore()
	g, c, _ := serve(f, store)
	user, password := g.Credentials()
	f.Fuzz(func(t *testing.T, name, word, path string) {
		if name == user && word == password {
			t.Skip("guessed")
		}
		status, _, answer := raw(t, g.Host, name, word, "GET", path, "", nil)
		if status == http.StatusOK || bytes.Contains(answer, c.Manifest.Raw[:20]) || bytes.Contains(answer, []byte(password)) {
			t.Errorf("%q %q %q: %d %s", name, word, path, status, answer)
		}
	})
}
