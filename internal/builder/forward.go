package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// multiplexing is how connections share the streams of a program in a container. There is no
// keep-alive: such streams break only with the container, and a busy machine may be silent for
// long.
func multiplexing() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = engineTimeout
	c.MaxStreamWindowSize = 4 << 20
	c.LogOutput = io.Discard
	return c
}

// forwarded is a listener on the loopback interface of a container: `warmlayer forward`
// listens there, and sends each connection here through its standard streams.
type forwarded struct {
	daemon *containerDaemon

	mu      sync.Mutex
	addr    net.Addr
	session *yamux.Session
	changed chan struct{} // closed when session is another one, and by Close
	closed  bool
}

func (d *containerDaemon) listen(ctx context.Context) (net.Listener, error) {
	f := &forwarded{daemon: d, changed: make(chan struct{})}
	if err := f.connect(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forwards = append(d.forwards, f)
	return f, nil
}

// connect starts the program in the container, on the same port as before, if any.
func (f *forwarded) connect(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	at := "127.0.0.1:0"
	if f.addr != nil {
		at = f.addr.String()
	}
	conn, err := f.daemon.run(ctx, "warmlayer", "forward", at)
	if err != nil {
		return fmt.Errorf("forward a port of the builder: %w", err)
	}
	defer context.AfterFunc(ctx, func() {
		defer crash.Catch()
		conn.Close()
	})()
	line, err := readLine(conn)
	if err == nil {
		f.addr, err = net.ResolveTCPAddr("tcp", line)
	}
	var session *yamux.Session
	if err == nil {
		session, err = yamux.Server(conn, multiplexing())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("forward a port of the builder: %w", err), conn.Close())
	}
	f.session = session
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

// readLine reads one line, and no byte after it: a session follows.
func readLine(r io.Reader) (string, error) {
	var line strings.Builder
	for b := make([]byte, 1); line.Len() < 100; line.WriteByte(b[0]) {
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return line.String(), nil
		}
	}
	return "", errors.New("the first line is too long")
}

// Accept returns the next connection. It also waits while the daemon is started again.
func (f *forwarded) Accept() (net.Conn, error) {
	for {
		f.mu.Lock()
		session, changed, closed := f.session, f.changed, f.closed
		f.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		if conn, err := session.Accept(); err == nil {
			return conn, nil
		}
		f.mu.Lock()
		same := f.session == session && !f.closed
		f.mu.Unlock()
		if same {
			<-changed
		}
	}
}

// Addr is the address in the container.
func (f *forwarded) Addr() net.Addr { return f.addr }

// Close ends the program in the container. Further calls do nothing.
func (f *forwarded) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	close(f.changed)
	return f.session.Close()
}

// Forward listens at an address, writes that address as the first line of out, and sends each
// connection through the streams in and out. It is what runs in the container, and returns when
// in ends.
func Forward(ctx context.Context, address string, in io.ReadCloser, out io.Writer) error {
	listener, err := listenAgain(ctx, address)
	if err != nil {
		return err
	}
	defer listener.Close()
	if _, err := fmt.Fprintln(out, listener.Addr()); err != nil {
		return err
	}
	session, err := yamux.Client(struct {
		io.ReadCloser
		io.Writer
	}{in, out}, multiplexing())
	if err != nil {
		return err
	}
	ended, end := context.WithCancel(ctx)
	var open sync.WaitGroup
	defer open.Wait()
	open.Go(func() {
		defer crash.Catch()
		<-session.CloseChan()
		end()
		listener.Close()
	})
	for {
		conn, err := listener.Accept()
		if session.IsClosed() {
			return nil
		}
		if err != nil {
			return errors.Join(err, session.Close())
		}
		open.Go(func() {
			defer crash.Catch()
			defer conn.Close()
			defer context.AfterFunc(ended, func() {
				defer crash.Catch()
				conn.Close()
			})()
			if stream, err := session.OpenStream(); err == nil {
				defer stream.Close()
				_ = exchange(conn.(*net.TCPConn), stream) // both ends notice an error
			}
		})
	}
}

// listenAgain listens at an address, and waits while a program that is ending still has it.
func listenAgain(ctx context.Context, address string) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, killGrace)
	defer cancel()
	for tick := time.Tick(pollInterval); ; {
		listener, err := net.Listen("tcp", address)
		if err == nil {
			return listener, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-tick:
		}
	}
}
