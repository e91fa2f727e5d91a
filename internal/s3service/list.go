package s3service

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

// List hands the objects whose keys begin with a prefix to a function, a page of a thousand at a time, and ends with its error.
// A bucket that is not there is an error.
func (b *Bucket) List(ctx context.Context, prefix string, page func([]storage.Listed) error) error {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return err
	}
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &b.spec.Bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		got, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list %s: %w", b.At(prefix), s3Error(err))
		}
		objects := make([]storage.Listed, len(got.Contents))
		for i, o := range got.Contents {
			objects[i] = storage.Listed{Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size), Changed: aws.ToTime(o.LastModified)}
		}
		if err := page(objects); err != nil {
			return err
		}
	}
	return nil
}

// mostAtOnce is how many objects S3 removes in one request (Amazon S3 API, DeleteObjects).
const mostAtOnce = 1000

// RemoveAll removes objects, a thousand with each request, and hands those that are gone to a function. The error names the
// first object that the server did not remove; the others are tried all the same.
func (b *Bucket) RemoveAll(ctx context.Context, objects []storage.Listed, gone func(storage.Listed)) error {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return err
	}
	var failed error
	for from := 0; from < len(objects); from += mostAtOnce {
		some := objects[from:min(from+mostAtOnce, len(objects))]
		refused, err := b.removeSome(ctx, client, some)
		if err != nil {
			return fmt.Errorf("remove %s and others: %w", b.At(some[0].Key), err)
		}
		for _, o := range some {
			if why, left := refused[o.Key]; !left {
				gone(o)
			} else if failed == nil {
				failed = fmt.Errorf("remove %s: %s", b.At(o.Key), why)
			}
		}
	}
	return failed
}

// removeSome removes up to mostAtOnce objects, and returns why the server refuses some of them, by key. Servers that do not
// know the request, as Google's, get one for each object.
func (b *Bucket) removeSome(ctx context.Context, client *s3.Client, objects []storage.Listed) (map[string]string, error) {
	names := make([]types.ObjectIdentifier, len(objects))
	for i, o := range objects {
		names[i] = types.ObjectIdentifier{Key: &o.Key}
	}
	refused := map[string]string{}
	answer, err := client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.spec.Bucket, Delete: &types.Delete{Objects: names, Quiet: aws.Bool(true)}})
	switch {
	case unknown(err):
		for _, o := range objects {
			if err := b.Remove(ctx, o.Key); err != nil {
				return nil, err
			}
		}
		return nil, nil
	case err != nil:
		return nil, s3Error(err)
	}
	for _, e := range answer.Errors {
		if code := aws.ToString(e.Code); code != "NoSuchKey" {
			refused[aws.ToString(e.Key)] = strings.TrimSpace(code + " " + aws.ToString(e.Message))
		}
	}
	return refused, nil
}
