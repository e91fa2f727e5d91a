package gateway_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/warmlayer/warmlayer/internal/gateway"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// dial opens a connection to the gateway and sends something on it.
func dial(t testing.TB, g *gateway.Gateway, request string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", g.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, request) // a connection that was closed shows when it is read
	return conn
}

// ended reports whether the gateway has closed a connection, after an answer or without one.
func ended(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond)) // never fails
	_, err := io.Copy(io.Discard, conn)
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}

// TestConnections: connections without the password are limited, and leave room for those with it.
func TestConnections(t *testing.T) {
	t.Parallel()
	const many = 200
	for name, request := range map[string]string{
		"silent":                 "",
		"unfinished headers":     "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: ",
		"no password":            "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"wrong password":         "GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic d2FybWxheWVyOng=\r\n\r\n",
		"a body that is awaited": "PUT /v2/d0/manifests/b-main HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _ := shared(t, testkit.NewStore())
			with := dial(t, g, authorized(t, g))
			testkit.Until(t, "the answer", func() bool { return answered(with) })
			open := make([]net.Conn, many)
			for i := range open {
				open[i] = dial(t, g, request)
			}
			testkit.Until(t, "connections to be closed", func() bool {
				left := 0
				for _, conn := range open {
					if !ended(conn) {
						left++
					}
				}
				return left <= 64
			})
			_, _ = io.WriteString(with, authorized(t, g))
			testkit.Until(t, "the connection with the password to be answered again", func() bool { return answered(with) })
			if a := ask(t, g, "GET", "/v2/", nil); a.status != 200 {
				t.Errorf("another connection with the password: %+v", a)
			}
		})
	}
}

// TestHeaders: headers have a limit.
func TestHeaders(t *testing.T) {
	t.Parallel()
	g := testkit.Gateway(t)
	if a := ask(t, g, "GET", "/v2/", nil, "X-Long: "+strings.Repeat("x", 64<<10)); a.status != 431 {
		t.Errorf("%+v", a)
	}
}

// authorized is a request with the password, as it is sent.
func authorized(t testing.TB, g *gateway.Gateway) string {
	t.Helper()
	var text strings.Builder
	if err := request(t, g, "GET", "/v2/", nil).Write(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// answered reports whether an answer with status 200 has come on a connection that stays open.
func answered(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond)) // never fails
	line := make([]byte, 1024)
	n, _ := conn.Read(line)
	return strings.HasPrefix(string(line[:n]), "HTTP/1.1 200 ")
}
