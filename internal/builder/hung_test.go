package builder_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"

	engine "github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/builder"
)

// hanging is a way to an engine. After hang no byte passes, and connections stay open.
type hanging struct {
	host string // for DOCKER_HOST
	gate sync.RWMutex
}

// newHanging is a way to the engine at a unix socket.
func newHanging(t *testing.T, host string) *hanging {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	h := &hanging{host: "tcp://" + listener.Addr().String()}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			engine, err := net.Dial("unix", strings.TrimPrefix(host, "unix://"))
			if err != nil {
				conn.Close()
				continue
			}
			go h.pass(engine.(*net.UnixConn), conn)
			go h.pass(conn.(*net.TCPConn), engine)
		}
	}()
	return h
}

// pass copies one direction of a connection.
func (h *hanging) pass(to interface {
	io.Writer
	CloseWrite() error
}, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		h.gate.RLock()
		if n > 0 {
			_, _ = to.Write(buffer[:n]) // the other direction ends too
		}
		if err != nil {
			_ = to.CloseWrite()
		}
		h.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

// hang stops everything until the end of the test.
func (h *hanging) hang(t *testing.T) {
	t.Helper()
	h.gate.Lock()
	t.Cleanup(h.gate.Unlock)
}

// TestInterruptedWhileTheEngineHangs: an engine that does not answer keeps an interrupted build from
// ending for a few seconds only, also while the builder is opened. The error says that the container
// may remain.
func TestInterruptedWhileTheEngineHangs(t *testing.T) {
	t.Parallel()
	o := inContainer(t)
	way := newHanging(t, o.Engine.Host)
	o.Engine.Host = way.host
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	b, err := builder.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	way.hang(t)
	opened := make(chan error, 1)
	go func() {
		_, err := builder.Open(ctx, o)
		opened <- err
	}()
	interrupt()
	start := time.Now()
	err = b.Close()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("close took %v", took)
	}
	if err == nil || !strings.Contains(err.Error(), "the container engine does not answer, and may keep the builder's container") {
		t.Errorf("close: %v", err)
	}
	if err := <-opened; err == nil {
		t.Error("an engine that hangs has opened a builder")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the end of both took %v", took)
	}
}

// TestInterruptedWhileCreating: an engine goes on with the container of a build that is interrupted before
// the engine has answered. The build removes it.
func TestInterruptedWhileCreating(t *testing.T) {
	t.Parallel()
	o := inContainer(t)
	socket := strings.TrimPrefix(o.Engine.Host, "unix://")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	late := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine"
			if strings.HasSuffix(r.In.URL.Path, "/containers/create") {
				r.Out = r.Out.WithContext(context.WithoutCancel(r.In.Context()))
			}
		},
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}},
		ModifyResponse: func(r *http.Response) error {
			if strings.HasSuffix(r.Request.URL.Path, "/containers/create") {
				interrupt() // the container is there, and the client does not know it yet
			}
			return nil
		},
	})
	defer late.Close()
	o.Engine.Host = "tcp://" + late.Listener.Addr().String()
	if _, err := builder.Open(ctx, o); err == nil {
		t.Error("an interrupted build has opened a builder")
	}
	c, err := engine.New(engine.WithHost("unix://" + socket))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	left, err := c.ContainerList(t.Context(), engine.ContainerListOptions{All: true})
	if err != nil || len(left.Items) != 0 {
		t.Errorf("%d containers remain, %v", len(left.Items), err)
	}
}
