package faults

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/ghaservice"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// services are copies of a service with its entries. Each has two proxies: for the service itself, and
// for the storage that its URLs lead to.
func services(t *testing.T, fill filling) func(*testing.T) *store {
	server := testkit.StartGHA(t)
	const ref = "refs/heads/main"
	first := testkit.Cache{Line: "type=gha", Env: server.Env(server.Token(ref))}
	fill(t, first)
	m := manifest(t, first)
	return func(t *testing.T) *store {
		s := &store{says: serviceSays, manifest: m, content: func(r *http.Request) bool { return !calls(r) }}
		copied := server.Copy(t, func(url string) string {
			host, rest, deeper := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
			p := testkit.StartFaulty(t, host)
			s.proxies = append(s.proxies, p)
			if deeper {
				rest = "/" + rest
			}
			return "http://" + p.Host + rest
		})
		s.cache = testkit.Cache{Line: "type=gha", Env: copied.Env(copied.Token(ref))}
		s.in = func(in phase, r *http.Request) bool { return ofService(r, entryOf(copied, r)) == in }
		s.remove = func(t testing.TB, d digest.Digest) {
			copied.Lose(t, ghaservice.BlobPrefix+d.String())
			copied.Remove(ghaservice.BlobPrefix + d.String())
		}
		for _, p := range s.proxies {
			p.About = func(r *http.Request) string { return entryOf(copied, r) }
		}
		return s
	}
}

// calls says whether a request is one to the service, and not to its storage.
func calls(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/twirp/") }

// entryOf is the key of the entry that a request is about.
func entryOf(server testkit.GHA, r *http.Request) string {
	if !calls(r) {
		return server.Key(path.Base(r.URL.Path))
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var message struct{ Key string }
	_ = json.Unmarshal(body, &message)
	return message.Key
}

// ofService is the phase of a request about an entry.
func ofService(r *http.Request, key string) phase {
	blob := strings.HasPrefix(key, ghaservice.BlobPrefix)
	read := path.Base(r.URL.Path) == "GetCacheEntryDownloadURL" || !calls(r) && reads(r)
	switch {
	case key == "":
		return ""
	case blob && read && calls(r):
		return importing
	case blob && read:
		return extracting
	case blob:
		return uploading
	case read && byBuildKit(r):
		return importing
	case read:
		return reading
	}
	return committing
}

// serviceSays is an error in Twirp's words ("Errors") or, of the storage, in Azure's.
func serviceSays(status int) http.HandlerFunc {
	codes := map[int]string{
		401: "unauthenticated", 403: "permission_denied", 404: "not_found", 409: "already_exists", 429: "resource_exhausted", 500: "internal", 503: "unavailable",
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if !calls(r) {
			azureSays(status)(w, r)
			return
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"code": codes[status], "msg": "so it was told"})
	}
}
