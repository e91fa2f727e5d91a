package testkit

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Faulty is a real server behind a proxy that a test breaks and mends. It forwards every request
// until [Faulty.Break].
type Faulty struct {
	Host string // "127.0.0.1:40001"
	// About says what a request is about, where its path does not; nil: all paths do.
	About func(*http.Request) string

	through  http.Handler
	listener *net.TCPListener
	served   sync.WaitGroup
	server   *http.Server

	mu    sync.Mutex
	match func(*http.Request) bool
	fault Fault // nil: none
	down  bool  // nothing listens
	hit   []string
}

// Fault makes a server misbehave: it handles a request in place of the server, and may pass it on.
type Fault func(w http.ResponseWriter, r *http.Request, server http.Handler)

// StartFaulty starts a proxy for the server at an address, until the test's end.
func StartFaulty(t testing.TB, address string) *Faulty {
	t.Helper()
	f := &Faulty{Host: freeAddress(t), through: handler(address, nil)}
	l, err := net.Listen("tcp", f.Host) // by its number, so that the port stays reserved while nothing listens
	if err != nil {
		t.Fatal(err)
	}
	f.listener = l.(*net.TCPListener)
	f.server = &http.Server{
		Handler: f, ReadHeaderTimeout: patience,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connection{}, c) },
	}
	f.serve()
	t.Cleanup(func() {
		_ = l.Close() // ends Serve, which Close of the server waits for
		_ = f.server.Close()
		f.served.Wait()
	})
	return f
}

// connection is the key of a request's connection in its context.
type connection struct{}

func (f *Faulty) serve() {
	f.served.Go(func() { _ = f.server.Serve(kept{f.listener}) })
}

// kept is a listener that a server does not close, so that it can be served again.
type kept struct{ net.Listener }

func (kept) Close() error { return nil }

// Break makes the requests that match meet a fault, from now on.
func (f *Faulty) Break(match func(*http.Request) bool, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.match, f.fault, f.hit = match, fault, nil
}

// Mend ends the fault, and returns the requests that met it, as "GET /v2/app/manifests/v1".
func (f *Faulty) Mend(t testing.TB) []string {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		f.control(t, func(fd int) error { return unix.Listen(fd, unix.SOMAXCONN) })
		f.down = false
		f.serve()
	}
	hit := f.hit
	f.fault, f.hit = nil, nil
	return hit
}

// ServeHTTP implements [http.Handler].
func (f *Faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	fault, down := f.fault, f.down
	if fault != nil && !down && !f.match(r) {
		fault = nil
	}
	if fault != nil {
		hit := r.Method + " " + r.URL.Path
		if f.About != nil {
			hit += " " + f.About(r)
		}
		f.hit = append(f.hit, hit)
	}
	f.mu.Unlock()
	if down {
		reset(r)
	}
	if fault == nil {
		f.through.ServeHTTP(w, r)
		return
	}
	fault(w, r, f.through)
	_, _ = io.Copy(io.Discard, r.Body) // where nothing has read it
}

// Stop makes the server go down, until [Faulty.Mend]: connecting to it is refused, and its
// connections are reset with their next requests.
func (f *Faulty) Stop(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return
	}
	f.down = true
	// On Linux this ends listening, and the socket keeps its address (net/ipv4/af_inet.c, inet_shutdown).
	f.control(t, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) })
	f.served.Wait()
}

// Stops is the fault of a server that goes down with the first request.
func (f *Faulty) Stops(t testing.TB) Fault {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		f.Stop(t)
		reset(r)
	}
}

func (f *Faulty) control(t testing.TB, do func(fd int) error) {
	raw, err := f.listener.SyscallConn()
	if err == nil {
		var done error
		if err = raw.Control(func(fd uintptr) { done = do(int(fd)) }); err == nil {
			err = done
		}
	}
	if err != nil {
		t.Errorf("the listener of %s: %v", f.Host, err)
	}
}

// reset ends a request's connection with a TCP reset. It does not return.
func reset(r *http.Request) {
	if c, ok := r.Context().Value(connection{}).(*net.TCPConn); ok {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	panic(http.ErrAbortHandler)
}

// Answers is the fault of a server that answers in place of what it should.
func Answers(answer http.HandlerFunc) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) { answer(w, r) }
}

// Resets ends the connection with a TCP reset after n bytes of the request's body, or, where that
// has none, of the answer's. With 0 bytes there is no answer at all. An answer without a body, such
// as that to a HEAD request, has no byte after which to end.
func Resets(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.ContentLength > 0 || n == 0 {
			_, _ = io.CopyN(io.Discard, r.Body, int64(n))
			reset(r)
		}
		answer := record(r, server)
		answer.send(w, answer.body[:min(n, len(answer.body))])
		if len(answer.body) > n {
			reset(r)
		}
	}
}

// Stalls reads a request and never answers.
func Stalls(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// Drips passes a body on, the request's or the answer's, a byte at a time.
func Drips(every time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.ContentLength > 0 {
			r.Body = io.NopCloser(&dripping{r.Context(), r.Body, every})
			server.ServeHTTP(w, r)
			return
		}
		answer := record(r, server)
		answer.send(w, nil)
		flush := http.NewResponseController(w)
		drops := &dripping{r.Context(), bytes.NewReader(answer.body), every}
		for one := make([]byte, 1); ; {
			if _, err := io.ReadFull(drops, one); err != nil {
				return
			}
			_, _ = w.Write(one)
			_ = flush.Flush()
		}
	}
}

type dripping struct {
	ctx   context.Context
	from  io.Reader
	every time.Duration
}

func (d *dripping) Read(p []byte) (int, error) {
	select {
	case <-time.After(d.every):
		return d.from.Read(p[:min(1, len(p))])
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

// Late makes every answer late.
func Late(by time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		select {
		case <-time.After(by):
			server.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}
}

// Changes changes a body that is not empty: the request's, or else the answer's. Its length is
// announced as it is then.
func Changes(change func([]byte) []byte) Fault {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.ContentLength > 0 {
			body := change(peek(r))
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			server.ServeHTTP(w, r)
			return
		}
		answer := record(r, server)
		if len(answer.body) > 0 {
			answer.body = change(answer.body)
			answer.header.Set("Content-Length", strconv.Itoa(len(answer.body)))
		}
		answer.send(w, answer.body)
	}
}

// Halved is a body that ends too early.
func Halved(body []byte) []byte { return body[:len(body)/2] }

// Flipped is a body with one bit of its first byte flipped, which makes every document invalid.
func Flipped(body []byte) []byte {
	body = slices.Clone(body)
	body[0] ^= 1
	return body
}

// Endless answers with a body that does not end, after a beginning.
func Endless(beginning string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.WriteString(w, beginning)
		more := bytes.Repeat([]byte(" "), 1<<20)
		for r.Context().Err() == nil {
			if _, err := w.Write(more); err != nil {
				return
			}
		}
	}
}

// ToGet limits a fault to GET requests.
func ToGet(fault Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method != http.MethodGet {
			server.ServeHTTP(w, r)
			return
		}
		fault(w, r, server)
	}
}

// First limits a fault to the first n requests; the server answers the others.
func First(n int, fault Fault) Fault {
	var met atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if met.Add(1) > int64(n) {
			server.ServeHTTP(w, r)
			return
		}
		fault(w, r, server)
	}
}

// After lets the server answer the first n requests.
func After(n int, fault Fault) Fault {
	var met atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if met.Add(1) <= int64(n) {
			server.ServeHTTP(w, r)
			return
		}
		fault(w, r, server)
	}
}

// recorded is a server's answer.
type recorded struct {
	status int
	header http.Header
	body   []byte
}

func record(r *http.Request, server http.Handler) recorded {
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	return recorded{w.Code, w.Header(), w.Body.Bytes()}
}

// send sends an answer with the first bytes of a body. The header announces what it is.
func (a recorded) send(w http.ResponseWriter, body []byte) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush()
}
