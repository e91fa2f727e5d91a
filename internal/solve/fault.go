package solve

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/gateway"
)

// fault blames a source for a failed build.
type fault struct {
	source *backends.Source
	err    error
}

// guilty are the sources that made the build fail: those that name a blob which
// the error is about, or which the gateway could not hand out, and those whose
// import, which is still open, never ended. Where none of them did, it may have been
// any whose blobs are not known. A command that failed (BuildKit's typed ExitError)
// is the user's own, and so is a build that was cancelled: no source is to blame
// then, and the build is not tried again.
func (b *run) guilty(ctx context.Context, err error, imports, open []gateway.Import, brokenOff []digest.Digest) []fault {
	var exit *gwpb.ExitError
	if err == nil || errors.As(err, &exit) || ctx.Err() != nil {
		return nil
	}
	var found, suspects []fault
	if errors.Is(err, errHangs) {
		if len(open) == 0 {
			open = imports // the one that was given up ended that moment
		}
		for _, i := range open {
			for _, s := range i.Sources {
				found = append(found, fault{s, err})
			}
		}
		return found
	}
	wanted := b.lost(err, brokenOff)
	for _, i := range imports {
		for _, s := range i.Sources {
			if d := names(s, wanted); d != "" {
				found = append(found, fault{s, fmt.Errorf("blob %s was lost: %w", d, err)})
			} else if len(wanted) > 0 && s.State == backends.Loaded && s.Manifest.Raw == nil {
				suspects = append(suspects, fault{s, fmt.Errorf("a blob was lost: %w", err)})
			}
		}
	}
	if len(found) == 0 {
		return suspects
	}
	return slices.Concat(found, joined(found, imports, err))
}

// joined are the innocent sources of imports that cannot be had without a guilty one.
func joined(guilty []fault, imports []gateway.Import, err error) []fault {
	blamed := func(s *backends.Source) bool {
		return slices.ContainsFunc(guilty, func(f fault) bool { return f.source == s })
	}
	var found []fault
	for _, i := range imports {
		if !i.Joint || !slices.ContainsFunc(i.Sources, blamed) {
			continue
		}
		for _, s := range i.Sources {
			if !blamed(s) {
				found = append(found, fault{s, fmt.Errorf("BuildKit reads it only together with a scope that is broken: %w", err)})
			}
		}
	}
	return found
}

// lost are the blobs for want of which a build may have failed.
func (b *run) lost(err error, brokenOff []digest.Digest) map[digest.Digest]bool {
	wanted := blobsIn(err, brokenOff)
	if b.Lost != nil {
		for _, d := range b.Lost() {
			wanted[d] = true
		}
	}
	return wanted
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

// blobsIn are the blobs that could not be fetched, according to an error. BuildKit's
// fetch errors are typed on the daemon only; to a client they come as text, in which
// the blob's digest is the one part that does not depend on the store or the version.
// Where a transfer stalls or broke off the text has none, but the status stream has. An
// upload that was refused names blobs too, and is no cache's fault.
func blobsIn(err error, brokenOff []digest.Digest) map[digest.Digest]bool {
	found := map[digest.Digest]bool{}
	text := err.Error()
	if upload.MatchString(text) {
		return found
	}
	for _, d := range digestPattern.FindAllString(text, -1) {
		found[digest.Digest(d)] = true
	}
	if errors.Is(err, errStalls) || len(found) == 0 && copying.MatchString(text) {
		for _, d := range brokenOff {
			found[d] = true
		}
	}
	return found
}

// The words of containerd v2: core/remotes/docker (pusher.go, resolver.go) of requests
// that fetch no blob, and core/content (helpers.go, Copy) of a transfer that broke off.
var (
	digestPattern = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	upload        = regexp.MustCompile(`(HEAD|POST|PUT|PATCH) request to|(Head|Post|Put|Patch) "`)
	copying       = regexp.MustCompile(`failed to copy: |short read: |unexpected EOF`)
)
