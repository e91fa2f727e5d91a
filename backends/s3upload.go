package backends

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// put implements service.
func (b *bucket) put(ctx context.Context, key string, content []byte, metadata map[string]string) error {
	client, err := b.client()
	if err != nil {
		return err
	}
	_, err = throttled{client, b.slots}.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.bucket, Key: &key, Body: bytes.NewReader(content), Metadata: metadata,
	})
	return s3Error(err)
}

// upload implements service, in parts.
func (b *bucket) upload(ctx context.Context, key string, body io.Reader, size int64) error {
	client, err := b.client()
	if err != nil {
		return err
	}
	uploads := transfermanager.New(throttled{client, b.slots}, func(o *transfermanager.Options) {
		o.PartSizeBytes, o.MultipartUploadThreshold = partSize, partSize
		o.Concurrency = partsAtOnce
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.FailTimeout = 5 * time.Second // for deleting the parts of a cancelled upload
	})
	_, err = uploads.UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket: &b.bucket, Key: &key, Body: body, ContentLength: &size,
	})
	return s3Error(err)
}

// throttled is a client with at most as many concurrent upload requests as slots. A slot is
// held for one request, not for a whole blob: otherwise two stores that take the same blobs
// could wait for each other.
type throttled struct {
	*s3.Client
	slots chan struct{}
}

func (t throttled) PutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	if err := t.wait(ctx); err != nil {
		return nil, err
	}
	defer t.done()
	return t.Client.PutObject(ctx, in, o...)
}

func (t throttled) UploadPart(ctx context.Context, in *s3.UploadPartInput, o ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	if err := t.wait(ctx); err != nil {
		return nil, err
	}
	defer t.done()
	return t.Client.UploadPart(ctx, in, o...)
}

func (t throttled) wait(ctx context.Context) error {
	select {
	case t.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t throttled) done() { <-t.slots }
