package engineapi_test

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/engineapi"
)

func TestPlaintext(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{"": false, "unix:///run/docker.sock": false, "ssh://me@host": false, "tcp://docker:2375": true, "http://docker:2375": true} {
		p := engineapi.Place{Host: host}
		if got := p.Plaintext(); got != want {
			t.Errorf("%q: %v", host, got)
		}
		if p.Address() == "" {
			t.Errorf("%q has no address", host)
		}
	}
}
