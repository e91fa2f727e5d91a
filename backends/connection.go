package backends

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/warmlayer/warmlayer/internal/storage"
)

// connection is the way to one repository. It asks the registry once how it authenticates, and for one
// token to read with and one to write with: go-containerregistry alone asks again for each call.
type connection struct {
	repository name.Repository
	keychain   authn.Keychain
	base       http.RoundTripper // asks once, and tries again after faults of the network

	busy       chan struct{} // holds one element while a transport is made
	transports map[string]http.RoundTripper
}

func newConnection(r name.Repository, keychain authn.Keychain, base http.RoundTripper) *connection {
	again := transport.NewRetry(base, transport.WithRetryBackoff(backoff), transport.WithRetryPredicate(transient),
		transport.WithRetryStatusCodes(busyCodes...))
	return &connection{
		repository: r, keychain: keychain, base: transport.NewUserAgent(&pinged{inner: again, answers: map[string]http.Response{}}, storage.UserAgent),
		busy: make(chan struct{}, 1), transports: map[string]http.RoundTripper{},
	}
}

// options are those of calls of package remote that need a scope of the repository:
// [transport.PullScope] or [transport.PushScope].
func (c *connection) options(ctx context.Context, actions string) ([]remote.Option, error) {
	t, err := c.transport(ctx, actions)
	if err != nil {
		return nil, err
	}
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(t)}, nil
}

// transport is the way of requests that need a scope of the repository. A call that fails leaves nothing behind, so
// that the next one asks again.
func (c *connection) transport(ctx context.Context, actions string) (http.RoundTripper, error) {
	select {
	case c.busy <- struct{}{}:
		defer func() { <-c.busy }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	t, known := c.transports[actions]
	if !known {
		auth, err := authn.Resolve(ctx, c.keychain, c.repository)
		if err != nil {
			return nil, err
		}
		t, err = transport.NewWithContext(ctx, c.repository.Registry, auth, c.base, []string{c.repository.Scope(actions)})
		if err != nil {
			return nil, err
		}
		c.transports[actions] = t
	}
	return t, nil
}

// blobs is the URL of a blob, or of what else is below the repository's blobs.
func (c *connection) blobs(name string) string {
	at := url.URL{Scheme: c.repository.Scheme(), Host: c.repository.RegistryStr(), Path: "/v2/" + c.repository.RepositoryStr() + "/blobs/" + name}
	return at.String()
}

// call makes a request that package remote does not make in this way. An answer of another status than those that are
// wanted is a [transport.Error].
func (c *connection) call(ctx context.Context, actions, method, at string, header http.Header, body []byte, want ...int) (*http.Response, error) {
	t, err := c.transport(ctx, actions)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	maps.Copy(request.Header, header)
	response, err := (&http.Client{Transport: t}).Do(request)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(response, want...); err != nil {
		return nil, errors.Join(err, response.Body.Close())
	}
	return response, nil
}

// When a request is tried again, as package remote does by itself where it makes the transport
// (go-containerregistry v0.21, pkg/v1/remote/options.go).
var (
	backoff   = transport.Backoff{Duration: time.Second, Factor: 3, Jitter: 0.1, Steps: 3}
	busyCodes = []int{
		http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout, 499, 522,
	}
)

func transient(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary() ||
		slices.ContainsFunc([]error{io.ErrUnexpectedEOF, io.EOF, syscall.EPIPE, syscall.ECONNRESET, net.ErrClosed},
			func(known error) bool { return errors.Is(err, known) })
}

// pinged answers a registry's ping from memory once the registry has answered one.
type pinged struct {
	inner http.RoundTripper

	mu      sync.Mutex
	answers map[string]http.Response // of pings that were answered, by URL; without bodies
}

const pingPath = "/v2/"

// RoundTrip implements [http.RoundTripper].
func (p *pinged) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet || r.URL.Path != pingPath {
		return p.inner.RoundTrip(r)
	}
	p.mu.Lock()
	answer, known := p.answers[r.URL.String()]
	p.mu.Unlock()
	if known {
		answer.Request = r
		return &answer, nil
	}
	response, err := p.inner.RoundTrip(r)
	if err == nil && (response.StatusCode == http.StatusOK || response.StatusCode == http.StatusUnauthorized) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.answers[r.URL.String()] = http.Response{StatusCode: response.StatusCode, Header: response.Header.Clone(), Body: http.NoBody}
	}
	return response, err
}
