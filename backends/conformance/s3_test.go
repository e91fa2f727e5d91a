package conformance

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestS3(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: buckets(t), object: true})
}

func TestS3Remote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: buckets(t), object: true, remote: true})
}

func buckets(t *testing.T) func(*testing.T) store {
	t.Helper()
	server, registry := testkit.StartS3(t), testkit.StartRegistry(t)
	return func(t *testing.T) store {
		return objectStore(server.New(t), registry, server.Secret, "team/app")
	}
}
