package backends_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// registryAt is a registry cache, for reading and for adding records.
func registryAt(t testing.TB, keychain authn.Keychain, ref, more string) backends.Scopes {
	t.Helper()
	caches, problems := testkit.Resolve(cachespec.Environment{}, "type=registry,ref="+ref+more)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return backends.Open(caches, keychain)[0].Scopes()
}

// push writes the blobs to a repository, as BuildKit does before its manifest.
func (c cache) push(t testing.TB, repo string) {
	t.Helper()
	r, err := name.NewRepository(repo)
	if err != nil {
		t.Fatal(err)
	}
	for _, blob := range c.blobs {
		if err := remote.WriteLayer(r, static.NewLayer(blob, types.OCILayer)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	server := testkit.StartRegistry(t)
	for i, form := range []string{imageManifest, imageIndex, dockerList} {
		t.Run(form, func(t *testing.T) {
			repo := fmt.Sprintf("%s/o/app%d", server.Host, i)
			r, c := registryAt(t, nil, repo, ""), newCache(t, form, "one", "two")
			c.push(t, repo)
			annotated, err := c.WithRecord(record)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []backends.Manifest{c.Manifest, annotated} {
				if err := r.PutManifest(t.Context(), "b-main", m); err != nil {
					t.Fatal(err)
				}
				got, err := r.Manifest(t.Context(), "b-main")
				if err != nil || !bytes.Equal(got.Raw, m.Raw) || got.MediaType != form || got.Record != m.Record {
					t.Errorf("manifest %s %s, record %+v, %v", got.MediaType, got.Raw, got.Record, err)
				}
			}
			absent := digest.FromString("absent")
			sizes, err := r.Stat(t.Context(), append(digests(c), absent))
			if err != nil || len(sizes) != 3 || sizes[digest.FromString("two")] != 3 {
				t.Errorf("sizes %v, %v", sizes, err)
			}
			if got := read(t, r, digest.FromString("two"), 0) + read(t, r, digest.FromString("two"), 2); got != "twoo" {
				t.Errorf("read %q", got)
			}
			if _, err := r.Open(t.Context(), absent, 0); !errors.Is(err, backends.ErrAbsent) {
				t.Errorf("an absent blob: %v", err)
			}
			if _, err := r.Open(t.Context(), digest.FromString("two"), 4); err == nil || errors.Is(err, backends.ErrAbsent) {
				t.Errorf("behind the end: %v", err)
			}
			if _, err := r.Manifest(t.Context(), "b-other"); !errors.Is(err, backends.ErrAbsent) {
				t.Errorf("an absent tag: %v", err)
			}
		})
	}
	if _, err := registryAt(t, nil, server.Host+"/o/nobody", "").Manifest(t.Context(), "b-main"); !errors.Is(err, backends.ErrAbsent) {
		t.Errorf("an absent repository: %v", err)
	}
}

// Other answers of a server to the request for a manifest.
func TestRegistryAbsentOrFailed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		absent bool
	}{
		{"no such tag", 404, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, true},
		{"no such repository", 404, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, true},
		{"Harbor", 404, `{"errors":[{"code":"NOT_FOUND","message":"artifact o/app:cache-b-main not found"}]}`, true},
		{"a web server", 404, `<html>Not Found</html>`, false},
		{"an empty page", 404, ``, false},
		{"another code", 404, `{"errors":[{"code":"UNSUPPORTED"}]}`, false},
		{"denied", 403, `{"errors":[{"code":"DENIED"}]}`, false},
		{"not authorised", 401, `{"errors":[{"code":"UNAUTHORIZED"}]}`, false},
		{"with the wrong status", 400, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, false},
		{"no manifest", 200, `hello`, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v2/" {
					return
				}
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			}))
			t.Cleanup(server.Close)
			_, err := registryAt(t, nil, host(server)+"/o/app", "").Manifest(t.Context(), "b-main")
			if err == nil || errors.Is(err, backends.ErrAbsent) != test.absent {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNoRegistry(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, server := range []*httptest.Server{web, closed} {
		r := registryAt(t, nil, host(server)+"/o/app", "")
		if _, err := r.Manifest(t.Context(), "b-main"); err == nil || errors.Is(err, backends.ErrAbsent) {
			t.Errorf("error %v", err)
		}
	}
	down := registryAt(t, nil, host(closed)+"/o/app", "")
	if sizes, err := down.Stat(t.Context(), []digest.Digest{digest.FromString("one")}); err == nil {
		t.Errorf("sizes %v", sizes)
	}
}

func host(s *httptest.Server) string {
	return strings.TrimPrefix(strings.TrimPrefix(s.URL, "http://"), "https://")
}

// guarded is a proxy that only one user can pass.
func guarded(t testing.TB, registry testkit.Registry, user, password string) http.Handler {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry.Host})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// password has the only credentials, for one registry.
type password struct{ registry, user, password string }

// Resolve implements [authn.Keychain].
func (p password) Resolve(target authn.Resource) (authn.Authenticator, error) {
	if target.RegistryStr() != p.registry {
		return authn.Anonymous, nil
	}
	return &authn.Basic{Username: p.user, Password: p.password}, nil
}

func TestRegistryCredentials(t *testing.T) {
	t.Parallel()
	registry := testkit.StartRegistry(t)
	server := httptest.NewServer(guarded(t, registry, "me", "secret"))
	t.Cleanup(server.Close)
	c := newCache(t, imageManifest, "one")
	c.push(t, registry.Host+"/o/app")
	for name, test := range map[string]struct {
		keychain authn.Keychain
		ok       bool
	}{
		"right":            {password{host(server), "me", "secret"}, true},
		"wrong":            {password{host(server), "me", "other"}, false},
		"another registry": {password{"ghcr.io", "me", "secret"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registryAt(t, test.keychain, host(server)+"/o/app", ",registry.insecure=false")
			err := r.PutManifest(t.Context(), "b-main", c.Manifest)
			if (err == nil) != test.ok {
				t.Errorf("write: %v", err)
			}
			if _, err := r.Manifest(t.Context(), "b-main"); (err == nil) != test.ok || errors.Is(err, backends.ErrAbsent) {
				t.Errorf("read: %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

func TestRegistryInsecure(t *testing.T) {
	t.Parallel()
	registry := testkit.StartRegistry(t)
	server := httptest.NewUnstartedServer(guarded(t, registry, "", ""))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // hides the expected error of the handshake
	server.StartTLS()
	t.Cleanup(server.Close)
	c := newCache(t, imageManifest, "one")
	c.push(t, registry.Host+"/o/app")
	if err := registryAt(t, nil, registry.Host+"/o/app", "").PutManifest(t.Context(), "b-main", c.Manifest); err != nil {
		t.Fatal(err)
	}
	insecure := registryAt(t, nil, host(server)+"/o/app", ",registry.insecure=true")
	if _, err := insecure.Manifest(t.Context(), "b-main"); err != nil {
		t.Errorf("insecure: %v", err)
	}
	if got := read(t, insecure, digest.FromString("one"), 1); got != "ne" {
		t.Errorf("insecure: read %q", got)
	}
	secure := registryAt(t, nil, host(server)+"/o/app", "")
	if _, err := secure.Manifest(t.Context(), "b-main"); err == nil || errors.Is(err, backends.ErrAbsent) {
		t.Errorf("an untrusted certificate: %v", err)
	}
}
