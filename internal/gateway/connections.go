package gateway

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// maxConnections bounds the gateway's connections. BuildKit keeps at most four idle ones,
	// and one for each transfer (v0.34.2, util/resolver/resolver.go).
	maxConnections = 512
	// maxUnauthenticated bounds the connections that have not sent the password yet. Such a
	// connection ends with the answer to its first request without the password, or after
	// headerTimeout.
	maxUnauthenticated = 64
	// headerTimeout bounds the wait for the headers of a request.
	headerTimeout = 10 * time.Second
	// idleTimeout is how long a connection may be idle. It is longer than the 120 seconds after
	// which BuildKit's client closes a connection, so the gateway never closes one that the client
	// is using.
	idleTimeout = 150 * time.Second
	// maxHeader bounds the bytes of a request's headers.
	maxHeader = 16 << 10
)

// bounded is a listener with a limited number of connections. When too many have not presented
// the password, the oldest of these is closed for the new one. When all have presented it, the
// new one is closed.
type bounded struct {
	net.Listener

	mu              sync.Mutex
	unauthenticated []*connection // the oldest first
	authenticated   int
}

// connection is a connection of a bounded listener.
type connection struct {
	net.Conn
	from *bounded
	once sync.Once
}

// Accept implements [net.Listener].
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: conn, from: b}
		oldest, ok := b.add(c)
		if oldest != nil {
			_ = oldest.Close()
		}
		if ok {
			return c, nil
		}
		_ = conn.Close()
	}
}

// add counts a new connection, unless there are too many with the password. It returns the
// connection to close in its place; nil: none.
func (b *bounded) add(c *connection) (oldest *connection, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.authenticated+len(b.unauthenticated) >= maxConnections
	if full && len(b.unauthenticated) == 0 {
		return nil, false
	}
	if full || len(b.unauthenticated) >= maxUnauthenticated {
		oldest = b.unauthenticated[0]
	}
	b.unauthenticated = append(b.unauthenticated, c)
	return oldest, true
}

// Close implements [net.Conn].
func (c *connection) Close() error {
	c.once.Do(func() {
		c.from.mu.Lock()
		defer c.from.mu.Unlock()
		if !c.from.remove(c) {
			c.from.authenticated--
		}
	})
	return c.Conn.Close()
}

// CloseWrite lets [http.Server] end a connection after its last answer has arrived.
func (c *connection) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return nil
}

// authenticate counts the connection among those that have presented the password.
func (c *connection) authenticate() {
	c.from.mu.Lock()
	defer c.from.mu.Unlock()
	if c.from.remove(c) {
		c.from.authenticated++
	}
}

// remove removes a connection from the unauthenticated ones, and reports whether it was one of
// them. The caller holds the lock.
func (b *bounded) remove(c *connection) bool {
	i := slices.Index(b.unauthenticated, c)
	if i >= 0 {
		b.unauthenticated = slices.Delete(b.unauthenticated, i, i+1)
	}
	return i >= 0
}

// connectionKey is the key of a request's connection in its context.
type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// connectionOf is the connection of a request.
func connectionOf(ctx context.Context) *connection {
	return ctx.Value(connectionKey{}).(*connection)
}
