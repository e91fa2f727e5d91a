package backends_test

import (
	"testing"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// The entries of a remote builder leave out compressions that BuildKit's backend lacks.
func TestObjectsRemoteOptions(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"type=s3,bucket=b,region=r", "type=azblob,account_url=https://acme.blob.core.windows.net"} {
		for remote, want := range map[bool]string{
			false: " compression=zstd image-manifest=true mode=max oci-mediatypes=true",
			true:  " mode=max",
		} {
			c := backend(t, cachespec.Environment{Remote: remote}, line).(backends.GatewayWritten)
			if got := attrsText(c.Options()); got != want {
				t.Errorf("%s, remote %t: options%s, want%s", line, remote, got, want)
			}
		}
	}
}
