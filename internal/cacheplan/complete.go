package cacheplan

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/backends"
)

// complete sends the layers of a cache that BuildKit itself wrote to a [backends.Claiming] store and
// took for sent. It returns why those are lost that could not be sent. The error says that the store could
// not be asked. Each layer that no reading has found costs one look-up, and one that is lost its upload.
func (n native) complete(ctx context.Context, store backends.Store, layers []ocispecs.Descriptor, from content.Provider) (map[digest.Digest]error, error) {
	claiming, claims := store.(backends.Claiming)
	if !claims {
		return nil, nil
	}
	doubtful := n.unverified(layers)
	var digests []digest.Digest
	for _, l := range doubtful {
		digests = append(digests, l.Digest)
	}
	sizes, err := store.Stat(ctx, digests)
	if err != nil {
		return nil, err
	}
	ctx, cancel := forHalf(ctx)
	defer cancel()
	lost := map[digest.Digest]error{}
	for _, l := range doubtful {
		if _, there := sizes[l.Digest]; there {
			continue
		}
		if err := send(ctx, store, l, from); err != nil {
			lost[l.Digest] = fmt.Errorf("blob %s is not there: %s: %w", l.Digest, claiming.Claims(), err)
		}
	}
	return lost, nil
}

// unverified are the layers that no scope of the cache had when it was read.
func (n native) unverified(layers []ocispecs.Descriptor) []ocispecs.Descriptor {
	there, gone := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, r := range append([]*backends.Reading{n.own}, n.others...) {
		if r == nil {
			continue
		}
		var some *backends.Gone
		if err := r.Verify(); errors.As(err, &some) {
			for _, d := range some.Missing {
				gone[d] = true
			}
		} else if err != nil {
			continue
		}
		for _, l := range r.Manifest.Layers {
			there[l.Digest] = true
		}
	}
	var doubtful []ocispecs.Descriptor
	for _, l := range layers {
		if !there[l.Digest] || gone[l.Digest] {
			doubtful = append(doubtful, l)
		}
	}
	return doubtful
}

// forHalf is a context that ends when half of the time is over, so that the rest is enough for a cache
// without the blobs that were not sent by then.
func forHalf(ctx context.Context) (context.Context, context.CancelFunc) {
	end, limited := ctx.Deadline()
	if !limited {
		return context.WithCancel(ctx)
	}
	half := time.Until(end) / 2
	return context.WithTimeoutCause(ctx, half, fmt.Errorf("it was not sent within %s (half of cache-timeout)", half.Round(time.Second)))
}

// fromBuilder is the size in bytes of the parts in which a blob is read from a builder: each is a call.
const fromBuilder = 1 << 20

// send sends a blob that a builder has.
func send(ctx context.Context, store backends.Store, d ocispecs.Descriptor, from content.Provider) error {
	if from == nil {
		return errors.New("the builder does not give it")
	}
	blob, err := from.ReaderAt(ctx, d)
	if err != nil {
		return fmt.Errorf("the builder does not give it: %w", err)
	}
	defer blob.Close()
	return store.Put(ctx, d, bufio.NewReaderSize(io.NewSectionReader(blob, 0, d.Size), fromBuilder))
}
