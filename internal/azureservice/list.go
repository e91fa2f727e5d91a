package azureservice

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

// List hands the blobs whose names begin with a prefix to a function, a page of up to five thousand at a time, and ends with
// its error. A container that is not there has no blobs.
func (b *Container) List(ctx context.Context, prefix string, page func([]storage.Listed) error) error {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return err
	}
	pages := client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
	for pages.More() {
		got, err := pages.NextPage(ctx)
		if bloberror.HasCode(err, bloberror.ContainerNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", b.At(prefix), storage.AzureError(err))
		}
		var blobs []storage.Listed
		for _, item := range got.Segment.BlobItems {
			blobs = append(blobs, listed(item))
		}
		if err := page(blobs); err != nil {
			return err
		}
	}
	return nil
}

func listed(item *container.BlobItem) storage.Listed {
	found := storage.Listed{Key: *item.Name}
	if p := item.Properties; p != nil {
		found.Size, found.Changed = value(p.ContentLength), value(p.LastModified)
	}
	return found
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// RemoveAll removes blobs that were neither written nor touched since they were listed, which the service checks, and hands
// those that are gone to a function. The error names the first blob that was not removed for another reason; no other is begun
// after it.
func (b *Container) RemoveAll(ctx context.Context, blobs []storage.Listed, gone func(storage.Listed)) error {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var failed atomic.Bool
	var eg errgroup.Group // requests that have begun are not cancelled, so that it is known what is gone
	eg.SetLimit(storage.RequestsAtOnce)
	for _, o := range blobs {
		eg.Go(func() error {
			defer crash.Catch()
			if failed.Load() {
				return nil
			}
			removed, err := b.removeAsListed(ctx, client, o)
			if err != nil {
				failed.Store(true)
				return fmt.Errorf("remove %s: %w", b.At(o.Key), err)
			}
			if removed {
				mu.Lock()
				defer mu.Unlock()
				gone(o)
			}
			return nil
		})
	}
	return eg.Wait()
}

func (b *Container) removeAsListed(ctx context.Context, client *container.Client, o storage.Listed) (bool, error) {
	_, err := client.NewBlobClient(o.Key).Delete(ctx, &blob.DeleteOptions{
		AccessConditions: condition(blob.ModifiedAccessConditions{IfUnmodifiedSince: &o.Changed}),
	})
	switch {
	case bloberror.HasCode(err, bloberror.BlobNotFound):
		return true, nil
	case bloberror.HasCode(err, bloberror.ConditionNotMet):
		return false, nil
	}
	return err == nil, storage.AzureError(err)
}

// touch gives a blob the present time.
func (b *Container) touch(ctx context.Context, client *container.Client, key string) error {
	_, err := client.NewBlobClient(key).SetMetadata(ctx, map[string]*string{touched: new(time.Now().UTC().Format(time.RFC3339))}, nil)
	return err
}

// touched is the metadata of a blob that was touched, such as BuildKit gives the objects of S3.
const touched = "updated_at"
