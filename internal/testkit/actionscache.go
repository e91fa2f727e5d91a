package testkit

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/golang-jwt/jwt/v5"
	actionscache "github.com/tonistiigi/go-actions-cache"
)

// ActionsCache serves version 2 of the GitHub Actions cache: the three calls of BuildKit's client
// (go-actions-cache v0.0.0-20260120203934, cache_v2.go; the messages are those of actions/toolkit,
// packages/cache/src/generated/results/api/v1/cache.ts) and the list of entries (docs.github.com,
// "REST API endpoints for GitHub Actions cache"). As on GitHub, the contents are in a container of
// Azure, and are uploaded with signed URLs.
//
// It enforces these rules of GitHub ("Dependency caching reference", "Restrictions for accessing a
// cache"): an entry never changes; a token names the Git refs that it may read, nearest first, and
// the one that it may write; any other token is refused.
type ActionsCache struct {
	blobs  *container.Client // opened with the key of the account
	told   *container.Client // the same, at the address that clients are told
	secret []byte            // signs tokens

	mu         sync.Mutex
	entries    []*cacheEntry // in the order of their creation
	last       int64         // the last entry's number
	requests   []string      // the calls so far: "CreateCacheEntry buildkit-blob-1-…"
	down       int           // how many of the next calls are answered "unavailable"
	busy       int           // how many of the next calls are answered "too many requests"
	retryAfter time.Duration
}

type cacheEntry struct {
	id                int64
	created           time.Time
	ref, key, version string
	blob              string // its name in the container
	size              int64
	ended             bool // false: it cannot be read yet
}

// Repository is the repository to which the cache belongs.
const Repository = "owner/app"

// NewActionsCache is a service without entries, on an empty container.
func NewActionsCache(blobs *container.Client) *ActionsCache {
	return &ActionsCache{blobs: blobs, told: blobs, secret: []byte(rand.Text())}
}

// Token is the token of a job that may write and read one Git ref, "refs/heads/main" or "" for
// none, and read others.
func (s *ActionsCache) Token(write string, read ...string) string {
	return s.tokenUntil(time.Now().Add(time.Hour), write, read...)
}

func (s *ActionsCache) tokenUntil(end time.Time, write string, read ...string) string {
	var scopes []actionscache.Scope
	if write != "" {
		scopes = append(scopes, actionscache.Scope{Scope: write, Permission: actionscache.PermissionRead | actionscache.PermissionWrite})
	}
	for _, ref := range read {
		scopes = append(scopes, actionscache.Scope{Scope: ref, Permission: actionscache.PermissionRead})
	}
	return sign(s.secret, end, scopes)
}

// sign makes a token with the claims that go-actions-cache requires.
func sign(secret []byte, end time.Time, scopes []actionscache.Scope) string {
	ac, err := json.Marshal(scopes)
	if err == nil {
		var token string
		claims := jwt.MapClaims{"ac": string(ac), "nbf": time.Now().Add(-2 * time.Hour).Unix(), "exp": end.Unix()}
		if token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret); err == nil {
			return token
		}
	}
	panic(err) // neither error depends on input
}

// Busy makes the next calls fail with "too many requests", and a time after which to retry.
func (s *ActionsCache) Busy(calls int, retryAfter time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy, s.retryAfter = calls, retryAfter
}

// Down makes the next calls fail with "unavailable".
func (s *ActionsCache) Down(calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = calls
}

// Requests are the calls since the last Requests, each with its key.
func (s *ActionsCache) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.requests
	s.requests = nil
	return all
}

// Entries are those with the prefix, each as "refs/heads/main index-buildkit-1-…#1".
func (s *ActionsCache) Entries(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, e := range s.entries {
		if e.ended && strings.HasPrefix(e.key, prefix) {
			all = append(all, e.ref+" "+e.key)
		}
	}
	slices.Sort(all)
	return all
}

// Remove evicts the entries with the prefix, and returns how many there were.
func (s *ActionsCache) Remove(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := len(s.entries)
	s.entries = slices.DeleteFunc(s.entries, func(e *cacheEntry) bool { return strings.HasPrefix(e.key, prefix) })
	return had - len(s.entries)
}

// Abandon makes the entries with the prefix such as a build leaves that is cancelled while it writes
// them: their keys are taken, and they cannot be read.
func (s *ActionsCache) Abandon(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		e.ended = e.ended && !strings.HasPrefix(e.key, prefix)
	}
}

// call has the fields of the messages of all calls. Numbers of 64 bits may be encoded as text.
type call struct {
	Key         string      `json:"key"`
	RestoreKeys []string    `json:"restore_keys"`
	Version     string      `json:"version"`
	SizeBytes   json.Number `json:"size_bytes"`
}

// ServeHTTP implements [http.Handler].
func (s *ActionsCache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const service = "/twirp/github.actions.results.api.v1.CacheService/"
	if id, ok := strings.CutPrefix(r.URL.Path, "/repos/"+Repository+"/actions/caches"); ok {
		s.api(w, r, strings.TrimPrefix(id, "/"))
		return
	}
	method, ok := strings.CutPrefix(r.URL.Path, service)
	var c call
	if err := json.NewDecoder(r.Body).Decode(&c); !ok || err != nil {
		refuseCall(w, http.StatusNotFound, "bad_route", "no such call")
		return
	}
	scopes, err := s.verify(r)
	if err != nil {
		refuseCall(w, http.StatusUnauthorized, "unauthenticated", err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, method+" "+c.Key)
	if s.down > 0 {
		s.down--
		refuseCall(w, http.StatusServiceUnavailable, "unavailable", "out of order")
		return
	}
	if s.busy > 0 {
		s.busy--
		w.Header().Set("Retry-After", strconv.Itoa(int(s.retryAfter.Seconds())))
		refuseCall(w, http.StatusTooManyRequests, "resource_exhausted", "come back later")
		return
	}
	switch method {
	case "CreateCacheEntry":
		s.create(w, c, scopes)
	case "FinalizeCacheEntryUpload":
		s.finalize(r, w, c, scopes)
	case "GetCacheEntryDownloadURL":
		s.download(w, c, scopes)
	default:
		refuseCall(w, http.StatusNotFound, "bad_route", "no such call")
	}
}

// refuseCall answers with an error in Twirp's form (twitchtv.github.io/twirp, "Errors").
func refuseCall(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "msg": message})
}

func (s *ActionsCache) verify(r *http.Request) ([]actionscache.Scope, error) {
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), claims,
		func(*jwt.Token) (any, error) { return s.secret, nil }, jwt.WithValidMethods([]string{"HS256"}))
	if err != nil {
		return nil, err
	}
	ac, _ := claims["ac"].(string)
	var scopes []actionscache.Scope
	return scopes, json.Unmarshal([]byte(ac), &scopes)
}

// writable is the ref that a token may write; "": none.
func writable(scopes []actionscache.Scope) string {
	for _, s := range scopes {
		if s.Permission&actionscache.PermissionWrite != 0 {
			return s.Scope
		}
	}
	return ""
}

func (s *ActionsCache) find(ref, key, version string) *cacheEntry {
	i := slices.IndexFunc(s.entries, func(e *cacheEntry) bool { return e.ref == ref && e.key == key && e.version == version })
	if i < 0 {
		return nil
	}
	return s.entries[i]
}

// create begins an entry. The text of the denial is what GitHub's clients look for
// (actions/toolkit#2429).
func (s *ActionsCache) create(w http.ResponseWriter, c call, scopes []actionscache.Scope) {
	ref := writable(scopes)
	if ref == "" {
		refuseCall(w, http.StatusForbidden, "permission_denied", "cache write denied: the token may only read")
		return
	}
	if s.find(ref, c.Key, c.Version) != nil {
		refuseCall(w, http.StatusConflict, "already_exists", "an entry with this key is there")
		return
	}
	s.last++
	e := &cacheEntry{id: s.last, created: time.Now(), ref: ref, key: c.Key, version: c.Version, blob: rand.Text()}
	url, err := s.told.NewBlobClient(e.blob).GetSASURL(sas.BlobPermissions{Create: true, Write: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		refuseCall(w, http.StatusInternalServerError, "internal", err.Error())
		return
	}
	s.entries = append(s.entries, e)
	answerCall(w, map[string]any{"ok": true, "signed_upload_url": url})
}

func answerCall(w http.ResponseWriter, message map[string]any) {
	_ = json.NewEncoder(w).Encode(message) // an error means that the client has disconnected
}

// finalize ends an entry whose content exists and has the announced length.
func (s *ActionsCache) finalize(r *http.Request, w http.ResponseWriter, c call, scopes []actionscache.Scope) {
	e := s.find(writable(scopes), c.Key, c.Version)
	if e == nil || e.ended {
		refuseCall(w, http.StatusNotFound, "not_found", "no such entry was begun")
		return
	}
	properties, err := s.blobs.NewBlobClient(e.blob).GetProperties(r.Context(), nil)
	size, _ := c.SizeBytes.Int64()
	if err != nil || *properties.ContentLength != size {
		refuseCall(w, http.StatusBadRequest, "invalid_argument", "the content is not there, or not of that size")
		return
	}
	e.size, e.ended = size, true
	answerCall(w, map[string]any{"ok": true, "entry_id": "1"})
}

// download finds an entry: for each ref the key itself, and then the newest entry of each prefix.
func (s *ActionsCache) download(w http.ResponseWriter, c call, scopes []actionscache.Scope) {
	if len(scopes) == 0 {
		refuseCall(w, http.StatusForbidden, "permission_denied", "cache read denied: the token reads nothing")
		return
	}
	e := s.match(c, scopes)
	if e == nil {
		answerCall(w, map[string]any{"ok": false})
		return
	}
	url, err := s.told.NewBlobClient(e.blob).GetSASURL(sas.BlobPermissions{Read: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		refuseCall(w, http.StatusInternalServerError, "internal", err.Error())
		return
	}
	answerCall(w, map[string]any{"ok": true, "signed_download_url": url, "matched_key": e.key})
}

func (s *ActionsCache) match(c call, scopes []actionscache.Scope) *cacheEntry {
	for _, scope := range scopes {
		if e := s.find(scope.Scope, c.Key, c.Version); e != nil && e.ended {
			return e
		}
		for _, prefix := range c.RestoreKeys {
			for _, e := range slices.Backward(s.entries) {
				if e.ended && e.ref == scope.Scope && e.version == c.Version && strings.HasPrefix(e.key, prefix) {
					return e
				}
			}
		}
	}
	return nil
}

// api is GitHub's API for entries: their list, page by page, and the removal of one. It accepts any token.
func (s *ActionsCache) api(w http.ResponseWriter, r *http.Request, id string) {
	if r.Header.Get("Authorization") == "" {
		http.Error(w, `{"message": "Bad credentials"}`, http.StatusUnauthorized)
		return
	}
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodDelete {
		s.delete(w, id)
		return
	}
	s.requests = append(s.requests, "list "+q.Get("ref"))
	all := []map[string]any{}
	for _, e := range s.entries {
		if e.ended && strings.HasPrefix(e.key, q.Get("key")) && (!q.Has("ref") || e.ref == q.Get("ref")) {
			all = append(all, map[string]any{
				"id": e.id, "key": e.key, "ref": e.ref, "size_in_bytes": e.size, "created_at": e.created, "last_accessed_at": e.created,
			})
		}
	}
	page, _ := strconv.Atoi(q.Get("page"))
	each, _ := strconv.Atoi(q.Get("per_page"))
	from := min(max(page-1, 0)*each, len(all))
	answerCall(w, map[string]any{"total_count": len(all), "actions_caches": all[from:min(from+each, len(all))]})
}

func (s *ActionsCache) delete(w http.ResponseWriter, id string) {
	s.requests = append(s.requests, "delete "+id)
	had := len(s.entries)
	s.entries = slices.DeleteFunc(s.entries, func(e *cacheEntry) bool { return strconv.FormatInt(e.id, 10) == id })
	if len(s.entries) == had {
		http.Error(w, `{"message": "Not Found"}`, http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
