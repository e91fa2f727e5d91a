package s3service

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"

	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

// Upload streams an object of size bytes, in parts or, where the server does not take parts, in one request.
func (b *Bucket) Upload(ctx context.Context, key string, body io.Reader, size int64) error {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return err
	}
	upload := func() error { return b.upload(ctx, client, key, body, size) }
	return s3Error(b.renewing(ctx, client, key, upload, func() error { return errSwept }))
}

var errSwept = errors.New("a prune removed it while it was written: the next build writes it")

func (b *Bucket) upload(ctx context.Context, client *s3.Client, key string, body io.Reader, size int64) error {
	if b.noParts.Load() {
		return putStream(ctx, client, b.spec.Bucket, key, body, size)
	}
	first := &replay{from: body}
	uploads := transfermanager.New(throttled{client, b.slots, first.stop}, func(o *transfermanager.Options) {
		o.PartSizeBytes, o.MultipartUploadThreshold = storage.PartSize, storage.PartSize
		o.Concurrency = storage.PartsAtOnce
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.FailTimeout = 5 * time.Second // for deleting the parts of a cancelled upload
	})
	_, err := uploads.UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket: &b.spec.Bucket, Key: &key, Body: first, ContentLength: &size,
	})
	if begun := first.replayed(); begun != nil && noParts(err) {
		b.noParts.Store(true)
		err = putStream(ctx, client, b.spec.Bucket, key, begun, size)
	}
	return err
}

// throttled is a client with at most as many concurrent upload requests as slots. A slot is
// held for one request, not for a whole blob: otherwise two stores that take the same blobs
// could wait for each other.
type throttled struct {
	*s3.Client
	slots *semaphore.Weighted
	begun func() // called when an upload in parts has begun; nil: nothing is
}

func (t throttled) CreateMultipartUpload(ctx context.Context, in *s3.CreateMultipartUploadInput, o ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	out, err := t.Client.CreateMultipartUpload(ctx, in, o...)
	if err == nil {
		t.begun()
	}
	return out, err
}

func (t throttled) PutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	if err := t.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer t.slots.Release(1)
	return t.Client.PutObject(ctx, in, o...)
}

func (t throttled) UploadPart(ctx context.Context, in *s3.UploadPartInput, o ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	if err := t.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer t.slots.Release(1)
	return t.Client.UploadPart(ctx, in, o...)
}

// noParts reports whether a server does not take uploads in parts (405 or 501).
func noParts(err error) bool {
	var answer *awshttp.ResponseError
	return errors.As(err, &answer) && (answer.HTTPStatusCode() == http.StatusNotImplemented || answer.HTTPStatusCode() == http.StatusMethodNotAllowed)
}

// putStream sends a blob in one request from a body that is read once, so the request cannot be
// repeated. Its signature covers the digest in the key, so that the server refuses a body that was
// cut off. It holds no slot, because the body is one that other stores read too.
func putStream(ctx context.Context, client *s3.Client, bucket, key string, body io.Reader, size int64) error {
	input := &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: body, ContentLength: &size}
	_, err := client.PutObject(ctx, input, func(o *s3.Options) {
		o.Retryer = aws.NopRetryer{}
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			_, err := stack.Finalize.Swap(payloadHash("").ID(), payloadHash(digest.Digest(path.Base(key)).Encoded()))
			return err
		})
	})
	return err
}

// payloadHash is the hash of a request's body in hexadecimal digits, in place of the one that the
// SDK would read the body for.
type payloadHash string

// ID is that of the SDK's step (aws/signer/v4, ComputePayloadSHA256).
func (payloadHash) ID() string { return "ComputePayloadHash" }

// HandleFinalize implements [middleware.FinalizeMiddleware].
func (h payloadHash) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	return next.HandleFinalize(v4.SetPayloadHash(ctx, string(h)), in)
}

// replay is a body that is kept in memory until stop is called, to be read again.
type replay struct {
	from    io.Reader
	kept    bytes.Buffer
	stopped bool
}

func (r *replay) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if !r.stopped {
		r.kept.Write(p[:n])
	}
	return n, err
}

// stop forgets what was read, and keeps nothing more.
func (r *replay) stop() { r.stopped, r.kept = true, bytes.Buffer{} }

// replayed is the body from its beginning; nil after stop.
func (r *replay) replayed() io.Reader {
	if r.stopped {
		return nil
	}
	return io.MultiReader(&r.kept, r.from)
}
