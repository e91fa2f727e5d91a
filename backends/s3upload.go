package backends

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// partSize is that of a multipart upload: the least that S3 takes, since each of the
// parts under way lies in memory.
const partSize = 5 << 20

// partsAtOnce are the parts of one blob under way. BuildKit sends four blobs at once
// (v0.33.1, util/resolver/limited), so that up to 100 MiB are in memory.
const partsAtOnce = 4

// write puts a small object.
func (b *bucket) write(ctx context.Context, key string, content []byte, metadata map[string]string) error {
	client, err := b.client()
	if err != nil {
		return err
	}
	_, err = throttled{client, b.slots}.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.bucket, Key: &key, Body: bytes.NewReader(content), Metadata: metadata,
	})
	if err != nil {
		return b.fault("write", key, err)
	}
	return nil
}

// upload streams an object, in parts where it is large. One that breaks off, or whose
// content is not what it should be, never comes into being.
func (b *bucket) upload(ctx context.Context, key string, body io.Reader, size int64) error {
	client, err := b.client()
	if err != nil {
		return err
	}
	uploads := transfermanager.New(throttled{client, b.slots}, func(o *transfermanager.Options) {
		o.PartSizeBytes, o.MultipartUploadThreshold = partSize, partSize
		o.Concurrency = partsAtOnce
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.FailTimeout = 5 * time.Second // for taking back the parts of a cancelled upload
	})
	_, err = uploads.UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket: &b.bucket, Key: &key, Body: body, ContentLength: &size,
	})
	if err != nil {
		return b.fault("write", key, err)
	}
	return nil
}

// throttled lets no more upload requests run at once than there are slots. A slot is
// held for a request, not for a blob: two stores that take the same blobs would
// otherwise wait for each other.
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

// verified reads a blob to its end, which it reaches only if the content was right.
type verified struct {
	from     io.Reader
	desc     ocispecs.Descriptor
	verifier digest.Verifier
	read     int64
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.from.Read(p)
	v.read += int64(n)
	_, _ = v.verifier.Write(p[:n]) // a hash never fails
	if v.read > v.desc.Size || errors.Is(err, io.EOF) && (v.read != v.desc.Size || !v.verifier.Verified()) {
		return n, fmt.Errorf("content does not match %s of %d bytes", v.desc.Digest, v.desc.Size)
	}
	return n, err
}
