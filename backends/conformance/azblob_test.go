package conformance

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestAzblob(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: containers(t), object: true})
}

func TestAzblobRemote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: containers(t), object: true, gzip: true, remote: true})
}

// containers have a prefix that BuildKit, which joins paths, normalises to team/app.
func containers(t *testing.T) func(*testing.T) store {
	t.Helper()
	server, registry := testkit.StartAzblob(t), testkit.StartRegistry(t)
	return func(t *testing.T) store {
		return objectStore(server.New(t), registry, server.Secret, "team//app/")
	}
}
