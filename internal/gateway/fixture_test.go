package gateway_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

var app = testkit.NewGraph("base", "app: base")

// offered is the cache of the app, with its blobs in the store.
func offered(t testing.TB, s *testkit.Store) gateway.Cache {
	t.Helper()
	m, config, blobs := app.Cache(t, "b-main")
	c := gateway.Cache{Manifest: m, Config: config, Blobs: map[digest.Digest]gateway.Blob{}}
	for d, content := range blobs {
		s.Set(d, content)
	}
	for _, l := range m.Layers {
		c.Blobs[l.Digest] = gateway.Blob{Store: s, Size: l.Size}
	}
	return c
}

// complete offers a cache that is complete.
func complete(c gateway.Cache) gateway.Offered {
	return func(context.Context) (gateway.Cache, error) { return c, nil }
}

// serve is a gateway over one store that holds the app's cache. The repositories s0 and d0 can be
// written.
func serve(t testing.TB, s *testkit.Store) (*gateway.Gateway, gateway.Cache, *gateway.Fanout) {
	t.Helper()
	g, c := testkit.Gateway(t), offered(t, s)
	if ref := g.Offer(complete(c)); ref != g.Host+"/s0:scopes" {
		t.Fatal(ref)
	}
	return g, c, g.Accept([]backends.Store{s}, c.Manifest.Layers, time.Minute)
}

// asSent writes what was sent as the cache of b-main, with a record.
func asSent(r backends.Record) func(int) gateway.Write {
	return fitted(r, func(sent gateway.Sent, _ map[digest.Digest]error) (gateway.Sent, error) { return sent, nil })
}

// fitted writes what fit makes of a cache as that of b-main. It returns the error of fit, which
// prevents the write where there is no manifest.
func fitted(r backends.Record, fit func(gateway.Sent, map[digest.Digest]error) (gateway.Sent, error)) func(int) gateway.Write {
	return func(int) gateway.Write {
		return func(ctx context.Context, store backends.Store, sent gateway.Sent, damaged map[digest.Digest]error) error {
			sent, note := fit(sent, damaged)
			if sent.Manifest.Raw == nil {
				return note
			}
			if sent.Config != nil {
				if err := store.Put(ctx, sent.Manifest.Config, bytes.NewReader(sent.Config)); err != nil {
					return err
				}
			}
			m, err := sent.Manifest.WithRecord(r)
			if err == nil {
				err = store.PutManifest(ctx, "b-main", m)
			}
			return cmp.Or(err, note)
		}
	}
}

// answer is the gateway's response to a request.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

// ask sends a request with the gateway's password. Headers are written "Name: value".
func ask(t testing.TB, g *gateway.Gateway, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	r := request(t, g, method, path, body)
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Set(k, v)
	}
	return send(t, r)
}

// request is a request with the gateway's password.
func request(t testing.TB, g *gateway.Gateway, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.Host+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(g.Credentials())
	return r
}

func send(t testing.TB, r *http.Request) answer {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(content), err}
}

// upload sends a blob as a client does: a POST, and one PUT to the location in its response.
func upload(t testing.TB, g *gateway.Gateway, repo string, d digest.Digest, content io.Reader) answer {
	t.Helper()
	begun := ask(t, g, "POST", "/v2/"+repo+"/blobs/uploads/", nil)
	if begun.status != http.StatusAccepted {
		t.Fatalf("an upload: %+v", begun)
	}
	return ask(t, g, "PUT", begun.header.Get("Location")+"?digest="+d.String(), content)
}

func blobURL(repo string, d digest.Digest) string { return fmt.Sprintf("/v2/%s/blobs/%s", repo, d) }
