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
)

// stdio is a connection to the standard streams of a program in a container. It has no
// deadlines: setting one does nothing.
type stdio struct {
	hijacked engine.HijackedResponse
	stdout   *io.PipeReader
	stderr   tail
	done     chan struct{} // closed once nothing reads the streams any more
}

// run starts a program in the container, and connects to it. It ends with the connection.
func (s *sibling) run(ctx context.Context, command ...string) (*stdio, error) {
	return runIn(ctx, s.engine, s.id, "0", command...)
}

// runIn starts a program in a container as one of its users, "" for the image's.
func runIn(ctx context.Context, c *engine.Client, id, user string, command ...string) (*stdio, error) {
	created, err := c.ExecCreate(ctx, id, engine.ExecCreateOptions{
		Cmd: command, User: user, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, err
	}
	attached, err := c.ExecAttach(ctx, created.ID, engine.ExecAttachOptions{})
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	conn := &stdio{hijacked: attached.HijackedResponse, stdout: r, done: make(chan struct{})}
	go func() {
		defer close(conn.done)
		_, err := stdcopy.StdCopy(w, &conn.stderr, conn.hijacked.Reader)
		if said := strings.TrimSpace(conn.stderr.String()); said != "" {
			err = errors.Join(err, fmt.Errorf("%s: %s", strings.Join(command[:2], " "), said))
		}
		w.CloseWithError(err)
	}()
	return conn, nil
}

func (c *stdio) Read(b []byte) (int, error)  { return c.stdout.Read(b) }
func (c *stdio) Write(b []byte) (int, error) { return c.hijacked.Conn.Write(b) }

// Close ends the program.
func (c *stdio) Close() error {
	err := c.hijacked.Conn.Close()
	c.stdout.Close()
	<-c.done
	return err
}

func (c *stdio) LocalAddr() net.Addr              { return streams{} }
func (c *stdio) RemoteAddr() net.Addr             { return streams{} }
func (c *stdio) SetDeadline(time.Time) error      { return nil }
func (c *stdio) SetReadDeadline(time.Time) error  { return nil }
func (c *stdio) SetWriteDeadline(time.Time) error { return nil }

// streams are an address.
type streams struct{}

func (streams) Network() string { return "stdio" }
func (streams) String() string  { return "stdio" }

// DialStdio connects standard streams, in and out, to a daemon's socket, for which it
// waits; it is what runs in the container. It returns when either side has ended.
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

// exchange copies both ways until the connection has no more to say, or the other side
// is gone.
func exchange(conn interface {
	io.ReadWriter
	CloseWrite() error
}, other io.ReadWriter) error {
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(conn, other)
		if err == nil {
			err = conn.CloseWrite()
		}
		if err != nil {
			ended <- err
		}
	}()
	go func() {
		_, err := io.Copy(other, conn)
		ended <- err
	}()
	return <-ended
}
