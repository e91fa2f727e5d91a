package conformance

import (
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestAzblob(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openAzblob, object: true})
}

func TestAzblobRemote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openAzblob, object: true, gzip: true, remote: true})
}

// openAzblob has a prefix that BuildKit, which joins paths, writes as team/app.
func openAzblob(t *testing.T) store {
	t.Helper()
	server := testkit.StartAzblob(t)
	return openObjects(t, server, server.Secret, "team//app/")
}
