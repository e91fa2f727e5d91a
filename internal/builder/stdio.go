package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	engine "github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

// stdioConn is a connection to the standard streams of a program in a container. Setting a
// deadline has no effect.
type stdioConn struct {
	hijacked engine.HijackedResponse
	stdout   *io.PipeReader
	stderr   tail
	done     chan struct{} // closed when the streams have been read to their end
}

// run starts a program in the container, and connects to it. The program ends with the
// connection.
func (d *containerDaemon) run(ctx context.Context, command ...string) (*stdioConn, error) {
	return runIn(ctx, d.engine, d.id, "0", command...)
}

// runIn starts a program in a container as one of its users, "" for that of the image, and
// connects to it.
func runIn(ctx context.Context, c *engine.Client, id, user string, command ...string) (*stdioConn, error) {
	created, err := c.ExecCreate(ctx, id, engine.ExecCreateOptions{
		Cmd: command, User: user, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, err
	}
	attached, err := waiting.Within(ctx, func() (engine.ExecAttachResult, error) {
		attached, err := c.ExecAttach(ctx, created.ID, engine.ExecAttachOptions{}) // without a timeout of its own
		if err == nil && ctx.Err() != nil {
			attached.Close() // nothing waits for it
			err = context.Cause(ctx)
		}
		return attached, err
	})
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	conn := &stdioConn{hijacked: attached.HijackedResponse, stdout: r, done: make(chan struct{})}
	go func() {
		defer crash.Catch()
		defer close(conn.done)
		_, err := stdcopy.StdCopy(w, &conn.stderr, conn.hijacked.Reader)
		if said := strings.TrimSpace(conn.stderr.String()); said != "" {
			err = errors.Join(err, fmt.Errorf("%s: %s", strings.Join(command[:2], " "), said))
		}
		w.CloseWithError(err)
	}()
	return conn, nil
}

func (c *stdioConn) Read(b []byte) (int, error)  { return c.stdout.Read(b) }
func (c *stdioConn) Write(b []byte) (int, error) { return c.hijacked.Conn.Write(b) }

// Close ends the program.
func (c *stdioConn) Close() error {
	err := c.hijacked.Conn.Close()
	c.stdout.Close()
	<-c.done
	return err
}

func (c *stdioConn) LocalAddr() net.Addr              { return stdioAddr{} }
func (c *stdioConn) RemoteAddr() net.Addr             { return stdioAddr{} }
func (c *stdioConn) SetDeadline(time.Time) error      { return nil }
func (c *stdioConn) SetReadDeadline(time.Time) error  { return nil }
func (c *stdioConn) SetWriteDeadline(time.Time) error { return nil }

// stdioAddr is the address of both ends.
type stdioAddr struct{}

func (stdioAddr) Network() string { return "stdio" }
func (stdioAddr) String() string  { return "stdio" }

// DialStdio waits for a daemon's socket and connects it to the streams in and out. It is what
// runs in the container, and returns when either side has ended.
func DialStdio(ctx context.Context, socket string, in io.Reader, out io.Writer) error {
	waiting, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := awaitSocket(waiting, socket); err != nil {
		return fmt.Errorf("connect to %s: %w", socket, err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(conn.(*net.UnixConn), struct {
		io.Reader
		io.Writer
	}{in, out})
}

// exchange copies both ways until the connection ends, or copying to it fails.
func exchange(conn interface {
	io.ReadWriter
	CloseWrite() error
}, other io.ReadWriter) error {
	ended := make(chan error, 2)
	go func() {
		defer crash.Catch()
		_, err := io.Copy(conn, other)
		if err == nil {
			err = conn.CloseWrite()
		}
		if err != nil {
			ended <- err
		}
	}()
	go func() {
		defer crash.Catch()
		_, err := io.Copy(other, conn)
		ended <- err
	}()
	return <-ended
}
