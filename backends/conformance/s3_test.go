package conformance

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestS3(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openS3, object: true})
}

func TestS3Remote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openS3, object: true, gzip: true, remote: true})
}

func openS3(t *testing.T) store {
	t.Helper()
	server := testkit.StartS3(t)
	return openObjects(t, server, server.Secret, "team/app")
}
