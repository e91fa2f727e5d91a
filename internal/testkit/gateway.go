package testkit

import (
	"net"
	"testing"

	"github.com/warmlayer/warmlayer/internal/gateway"
)

// Gateway starts a gateway, which ends with the test.
func Gateway(t testing.TB) *gateway.Gateway {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := gateway.Serve(listener)
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}
