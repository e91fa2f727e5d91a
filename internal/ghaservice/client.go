// Package ghaservice is a client of GitHub's cache service, whose entries are immutable. What is
// replaced there is a series of entries, in which the one with the highest number counts.
//
//	entries := &ghaservice.Entries{Client: ghaservice.New(spec)}
//	entry, number, err := entries.Newest(ctx, "index-buildkit-1-9a1f2c3d")
//	number, err = entries.Replace(ctx, "index-buildkit-1-9a1f2c3d", number, content)
package ghaservice

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	actionscache "github.com/tonistiigi/go-actions-cache"
	"golang.org/x/sync/semaphore"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/storage"
)

// BlobPrefix precedes the digest in the key of a blob's entry.
const BlobPrefix = "buildkit-blob-1-"

// Client is the service, as one job reaches it. Its methods may be called concurrently.
type Client struct {
	spec *cachespec.GHA

	cache   *actionscache.Cache       // nil when the token is not valid
	err     error                     // why cache is nil
	http    *http.Client              // for all requests
	backoff *actionscache.BackoffPool // all calls wait together when the service limits their rate
	rest    *actionscache.RestAPI     // lists the keys of entries; nil: each key is looked up
	lookups *semaphore.Weighted       // a slot for each concurrent look-up
	found   sync.Map                  // entries that were looked up, by key, until they are opened
	seen    sync.Map                  // the newest known version of each series of entries, by key
}

// lookupsAtOnce bounds concurrent look-ups, because GitHub limits their rate for each repository.
const lookupsAtOnce = 16

// New makes the client of a cache. It opens no connection: a malformed token is found by parsing it.
func New(spec *cachespec.GHA) *Client {
	c := &Client{spec: spec, lookups: semaphore.NewWeighted(lookupsAtOnce)}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = lookupsAtOnce // keeps a batch's connections for the next one
	c.http = &http.Client{Transport: transport}
	c.backoff = &actionscache.BackoffPool{}
	options := actionscache.Opt{Client: c.http, Timeout: c.spec.Timeout, BackoffPool: c.backoff, UserAgent: storage.UserAgent}
	// The library's errors about a token contain no part of it.
	if c.cache, c.err = actionscache.New(c.spec.Token, c.spec.URL, c.spec.V2, options); c.err != nil {
		c.err = fmt.Errorf("the runner's token is not valid: %w", c.err)
	}
	if c.spec.GHToken != "" {
		options.Client = &http.Client{Transport: &restTransport{base: c.spec.API, next: transport}}
		c.rest, _ = actionscache.NewRestAPI(c.spec.GHRepository, c.spec.GHToken, options) // never fails
	}
	return c
}

// Valid reports whether the job's token can be parsed.
func (c *Client) Valid() bool { return c.cache != nil }

// Scopes are the caches that the token reaches, by Git ref; none without a valid token.
func (c *Client) Scopes() []actionscache.Scope {
	if c.cache == nil {
		return nil
	}
	return c.cache.Scopes()
}

// WriteOnly reports whether this job may write the cache and not read it.
func (c *Client) WriteOnly() bool { return c.spec.Mode == "write-only" }

// restTransport sends requests for api.github.com to the API of the runner's server. Every
// status but 200 is an error, because the library reads all answers as lists.
type restTransport struct {
	base string // "https://api.github.com"
	next http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t *restTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	base, err := url.Parse(t.base)
	if err != nil {
		return nil, errors.New("GITHUB_API_URL is not a URL")
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = base.Scheme, base.Host, base.Host
	r.URL.Path = strings.TrimSuffix(base.Path, "/") + r.URL.Path
	answer, err := t.next.RoundTrip(r)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("list the entries of the cache: %s", answer.Status), answer.Body.Close())
		answer = nil
	}
	return answer, err
}
