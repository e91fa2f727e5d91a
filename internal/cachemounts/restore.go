package cachemounts

import (
	"context"
	"fmt"
	"io"
	"time"

	gw "github.com/moby/buildkit/frontend/gateway/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/mountpack"
)

// atOnce is how many mounts are restored, or saved, at once.
const atOnce = 2

// restoreAll restores mounts. One that cannot be restored stays empty, and its outcome says why.
func (p *passing) restoreAll(ctx context.Context, wanted map[*mount]bool) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.Timeout, fmt.Errorf("not restored within %s (cache-timeout)", p.Timeout))
	defer cancel()
	program, err := p.Program()
	var box gw.Reference
	if err == nil {
		box, err = root(ctx, p.client, program)
	}
	var eg errgroup.Group
	eg.SetLimit(atOnce)
	for mount := range wanted {
		mount.settled = true
		if err != nil {
			mount.outcome.Err = err
			continue
		}
		eg.Go(func() error {
			defer crash.Catch()
			if err := p.restoreOne(ctx, box, mount); err != nil {
				mount.outcome.Err = fmt.Errorf("not restored: %w", err)
			}
			return nil
		})
	}
	_ = eg.Wait()
}

func (p *passing) restoreOne(ctx context.Context, box gw.Reference, mount *mount) error {
	began := time.Now()
	from, err := p.stored.find(ctx, mount.use.Key())
	if from == nil {
		return err
	}
	index, err := readIndex(ctx, from)
	if err != nil {
		return err
	}
	open := func(ctx context.Context, pack mountpack.Pack) (io.ReadCloser, error) {
		return from.from.Open(ctx, pack.Digest, 0)
	}
	var stats mountpack.RestoreStats
	err = p.container(ctx, p.client, box, mount.use, "restore", func(stdin io.WriteCloser, stdout io.Reader) (err error) {
		stats, err = mountpack.AskRestore(ctx, stdin, stdout, mountpack.RestoreRequest{MaxBytes: mount.limit, Replace: p.Fresh}, index, open)
		return err
	})
	if err != nil {
		return err
	}
	mount.restore = &restored{index: index, from: from, clock: stats.Clock, at: from.Time}
	if !stats.Kept {
		mount.outcome.Restored = Moved{from.scope, stats.Packs + int64(len(index)), stats.Entries, time.Since(began).Seconds()}
	}
	return nil
}

// readIndex reads the index of a mount.
func readIndex(ctx context.Context, from *entry) ([]byte, error) {
	return backends.ReadBlob(ctx, from.from, ocispecs.Descriptor{Digest: from.Index.Digest, Size: from.Index.Size}, maxIndex)
}
