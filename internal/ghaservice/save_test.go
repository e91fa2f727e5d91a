package ghaservice

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	actionscache "github.com/tonistiigi/go-actions-cache"

	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// standin is version 2 of the service with its storage, for one entry.
type standin struct {
	url string
	// answer is called before a request is carried out, with the call's name, or "storage" and the
	// number of the request. It may answer in place of the stand-in.
	answer func(w http.ResponseWriter, name string, n int) (done bool)

	mu       sync.Mutex
	requests []string
	taken    bool
	content  []byte
	ended    bool
}

func startStandin(t *testing.T, answer func(w http.ResponseWriter, name string, n int) bool) (*standin, *Entries) {
	t.Helper()
	s := &standin{answer: answer}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	claims := jwt.MapClaims{"ac": "[]", "nbf": 0, "exp": time.Now().Add(time.Hour).Unix()}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte("any"))
	if err != nil {
		t.Fatal(err)
	}
	return s, &Entries{Client: New(&cachespec.GHA{Token: token, URL: s.url, V2: true, Timeout: time.Minute})}
}

// ServeHTTP implements [http.Handler].
func (s *standin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := path.Base(r.URL.Path)
	n := 0
	for _, had := range s.requests {
		if had == name {
			n++
		}
	}
	s.requests = append(s.requests, name)
	if s.answer != nil && s.answer(w, name, n) {
		return
	}
	switch {
	case name == "storage" && r.Method == http.MethodPut:
		body, _ := io.ReadAll(r.Body)
		sum := md5.Sum(body)
		if r.Header.Get("Content-Md5") != base64.StdEncoding.EncodeToString(sum[:]) {
			w.Header().Set("X-Ms-Error-Code", "Md5Mismatch")
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.URL.Query().Get("comp") != "blocklist" {
			s.content = append(s.content, body...)
		}
		w.Header().Set("X-Ms-Request-Id", strconv.Itoa(n))
		w.WriteHeader(http.StatusCreated)
	case name == "storage":
		_, _ = w.Write(s.content)
	case name == "CreateCacheEntry" && s.taken:
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"code":"already_exists","msg":"it is there"}`)
	case name == "CreateCacheEntry":
		s.taken = true
		s.say(w, map[string]any{"ok": true, "signed_upload_url": s.url + "/storage"})
	case name == "FinalizeCacheEntryUpload" && s.ended:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"code":"not_found","msg":"none was begun"}`)
	case name == "FinalizeCacheEntryUpload":
		s.ended = true
		s.say(w, map[string]any{"ok": true})
	default:
		s.say(w, map[string]any{"ok": s.ended, "matched_key": "key", "signed_download_url": s.url + "/storage"})
	}
}

func (s *standin) say(w http.ResponseWriter, message map[string]any) {
	_ = json.NewEncoder(w).Encode(message)
}

// failing answers the first request of a name with 500.
func failing(name string, carriedOut func()) func(http.ResponseWriter, string, int) bool {
	return func(w http.ResponseWriter, got string, n int) bool {
		if got != name || n > 0 {
			return false
		}
		carriedOut()
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"code":"internal","msg":"once"}`)
		return true
	}
}

// TestCreate: calls and requests to the storage that fail once are repeated, also a call that was
// carried out.
func TestCreate(t *testing.T) {
	t.Parallel()
	const content = "content"
	var s *standin
	for name, fault := range map[string]func(http.ResponseWriter, string, int) bool{
		"no fault":           nil,
		"the call to begin":  failing("CreateCacheEntry", func() {}),
		"the storage":        failing("storage", func() {}),
		"the call to end":    failing("FinalizeCacheEntryUpload", func() {}),
		"an end that counts": failing("FinalizeCacheEntryUpload", func() { s.ended = true }),
	} {
		t.Run(name, func(t *testing.T) {
			var e *Entries
			s, e = startStandin(t, fault)
			if err := e.create(t.Context(), "key", actionscache.NewBlob([]byte(content))); err != nil {
				t.Fatal(err)
			}
			if string(s.content) != content || !s.ended {
				t.Errorf("content %q, ended %t, after %v", s.content, s.ended, s.requests)
			}
		})
	}
}

// TestCreateRefused: other refusals are not repeated.
func TestCreateRefused(t *testing.T) {
	t.Parallel()
	s, e := startStandin(t, func(w http.ResponseWriter, name string, _ int) bool {
		if name != "storage" {
			return false
		}
		w.Header().Set("X-Ms-Error-Code", "Md5Mismatch") // as after a bit that was flipped on the way
		w.WriteHeader(http.StatusBadRequest)
		return true
	})
	err := plainly(e.create(t.Context(), "key", actionscache.NewBlob([]byte("content"))))
	if err == nil || err.Error() != "the service's storage answers Md5Mismatch" {
		t.Errorf("error %v", err)
	}
	if want := []string{"CreateCacheEntry", "storage"}; !slices.Equal(s.requests, want) {
		t.Errorf("requests %v, want %v", s.requests, want)
	}
}

// TestCreateBlocks: a large content is sent in blocks, each with its checksum.
func TestCreateBlocks(t *testing.T) {
	t.Parallel()
	s, e := startStandin(t, nil)
	content := strings.Repeat("x", blockSize+1)
	if err := e.create(t.Context(), "key", &stream{from: strings.NewReader(content), size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if len(s.content) != len(content) || !s.ended {
		t.Errorf("%d bytes after %v", len(s.content), s.requests)
	}
}

// TestGetRefused: another URL is asked for only when the one at hand may be too old.
func TestGetRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		age  time.Duration
		want []string
	}{
		"new": {0, []string{"storage"}},
		"old": {2 * freshURL, []string{"storage", "GetCacheEntryDownloadURL", "storage"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, e := startStandin(t, func(w http.ResponseWriter, name string, _ int) bool {
				if name == "storage" {
					w.WriteHeader(http.StatusForbidden)
				}
				return name == "storage"
			})
			s.ended = true
			e.found.Store("key", located{&actionscache.Entry{Key: "key", URL: s.url + "/storage"}, time.Now().Add(-c.age)})
			if _, err := e.Get(t.Context(), "key", 0); !errors.Is(err, errExpired) {
				t.Errorf("error %v", err)
			}
			if !slices.Equal(s.requests, c.want) {
				t.Errorf("requests %v, want %v", s.requests, c.want)
			}
		})
	}
}
