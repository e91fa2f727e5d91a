package build

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/gateway"
)

// fault blames a source for a failed build.
type fault struct {
	source *backends.Source
	err    error
}

// guilty are the sources that made the build fail: those that name a blob which
// the error is about, or which the gateway could not hand out, and those whose
// import never ended. A command that failed (BuildKit's typed ExitError) is the
// user's own, and so is a build that was cancelled: no source is to blame then,
// and the build is not tried again.
func (b *run) guilty(ctx context.Context, err error, imports []gateway.Import) []fault {
	var exit *gwpb.ExitError
	hangs := errors.Is(err, errHangs)
	if err == nil || errors.As(err, &exit) || ctx.Err() != nil && !hangs {
		return nil
	}
	wanted := blobsIn(err)
	if b.Lost != nil {
		for _, d := range b.Lost() {
			wanted[d] = true
		}
	}
	var found []fault
	for _, i := range imports {
		for _, s := range i.Sources {
			if hangs {
				// What imports hold is merged: the one that hangs may hold up the others.
				found = append(found, fault{s, err})
			} else if d := names(s, wanted); d != "" {
				found = append(found, fault{s, fmt.Errorf("blob %s was lost: %w", d, err)})
			}
		}
	}
	return found
}

// names is a wanted blob that the source's cache is made of, "" for none.
func names(s *backends.Source, wanted map[digest.Digest]bool) digest.Digest {
	for _, blob := range s.Manifest.Blobs() {
		if wanted[blob.Digest] {
			return blob.Digest
		}
	}
	return ""
}

// blobsIn are the blobs that an error is about. BuildKit's fetch errors are typed
// on the daemon only; to a client they come as text, in which the blob's digest
// is the one part that does not depend on the store or the version.
func blobsIn(err error) map[digest.Digest]bool {
	found := map[digest.Digest]bool{}
	for _, d := range digestPattern.FindAllString(err.Error(), -1) {
		found[digest.Digest(d)] = true
	}
	return found
}

var digestPattern = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
