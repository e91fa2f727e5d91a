// Package storage has what the clients of all stores of blobs share: how they say that something
// is absent, how they verify content, and the answers of services in a few words.
//
//	blob := storage.Verify(body, desc) // ends in an ErrMismatch instead of other content
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrAbsent says that a scope or a blob is certainly not in the store.
var ErrAbsent = errors.New("absent")

// ErrReplaced says that another build has written a scope meanwhile.
var ErrReplaced = errors.New("another build has written the scope")

// UserAgent is in the header User-Agent of all requests, so that a server's log tells them from
// BuildKit's, which a remote builder makes with the same credentials.
const UserAgent = "warmlayer"

// AnyVersion is the version of a scope whose present cache does not matter.
const AnyVersion = "*"

// RequestsAtOnce bounds concurrent HEAD requests, and connections that are kept: a cache of 100 layers takes four round
// trips. Listing the prefix would go through every blob that any scope ever had, a thousand at a time.
const RequestsAtOnce = 32

// PartSize is the size in bytes of a part of a large upload. A part is in memory while it is
// sent. S3 requires this size at least; Azure writes blocks of more than 4 MiB at full
// speed (Microsoft, "Scalability and performance targets for Blob storage").
const PartSize = 5 << 20

// PartsAtOnce is the number of parts of one blob that are sent concurrently. BuildKit sends
// four blobs at once (v0.34.2, util/resolver/limited), so up to 100 MiB are in memory,
// including the part of each blob that is being read.
const PartsAtOnce = 4

// CredentialsTimeout bounds the search for credentials outside the line, part of which uses
// the network. It usually ends before probe-timeout, so that the error names the missing
// credentials instead of "no answer".
const CredentialsTimeout = 4 * time.Second

// Object is an object of a service that is being read.
type Object struct {
	io.ReadCloser
	Metadata map[string]string
	Version  string // which no other content of the object has; "" where the service has none
}

// Listed is an object as a listing shows it.
type Listed struct {
	Key     string
	Size    int64     // in bytes
	Changed time.Time // when it was written or touched last
}

// UnknownSize is the size of a blob whose store does not report sizes.
const UnknownSize int64 = -1

// Answer is a service's answer without the SDK's text, which has many lines.
type Answer struct {
	Words string
	Err   error // the SDK's
}

func (a Answer) Error() string { return a.Words }

// Unwrap returns the SDK's error.
func (a Answer) Unwrap() error { return a.Err }

// AzureError is the [Answer] of Azure's storage: its error code, such as "AuthenticationFailed",
// or without a code "HTTP status 502".
func AzureError(err error) error {
	var response *azcore.ResponseError
	switch {
	case !errors.As(err, &response):
		return err
	case response.ErrorCode == "":
		return Answer{Words: fmt.Sprintf("HTTP status %d", response.StatusCode), Err: err}
	}
	return Answer{Words: response.ErrorCode, Err: err}
}

// Sized is a store that tells the sizes of blobs.
type Sized interface {
	// Stat returns the sizes in bytes of those blobs that the store has; absent ones are left
	// out. A store that does not say gives [UnknownSize].
	Stat(context.Context, []digest.Digest) (map[digest.Digest]int64, error)
}

// Missing are those of the blobs that the store lacks, or has in another size than it should.
func Missing(ctx context.Context, store Sized, descs []ocispecs.Descriptor) ([]digest.Digest, error) {
	missing, _, err := Damaged(ctx, store, descs)
	return missing, err
}

// Damaged are the blobs that are missing, as in [Missing], and those of them that the store has in
// another size.
func Damaged(ctx context.Context, store Sized, descs []ocispecs.Descriptor) (missing, cut []digest.Digest, err error) {
	if len(descs) == 0 {
		return nil, nil, nil
	}
	digests := make([]digest.Digest, len(descs))
	for i, d := range descs {
		digests[i] = d.Digest
	}
	sizes, err := store.Stat(ctx, digests)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range descs {
		size, there := sizes[d.Digest]
		other := there && size != d.Size && size != UnknownSize
		if !there || other {
			missing = append(missing, d.Digest)
		}
		if other {
			cut = append(cut, d.Digest)
		}
	}
	return missing, cut, nil
}
