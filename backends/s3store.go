package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// bucket is the objects of an S3 cache.
type bucket struct {
	*S3
	writes bool // blobs that are looked up and older than touchRefresh are touched
}

// maxCopy is the largest object in bytes that S3 copies in one request.
const maxCopy = 5 << 30

func (b *bucket) at(key string) string { return "s3://" + b.bucket + "/" + key }

// s3Error gives the service's answer without the SDK's text, or [ErrAbsent].
func s3Error(err error) error {
	if noSuchKey(err) {
		return ErrAbsent
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return &serviceError{api, err}
	}
	return err
}

// serviceError is an answer of S3, in the form "AccessDenied: Access Denied".
type serviceError struct {
	api smithy.APIError
	err error
}

func (e *serviceError) Error() string {
	code, message := e.api.ErrorCode(), e.api.ErrorMessage()
	text := code
	if message != "" && message != code {
		text += ": " + message
	}
	if code == "AccessDenied" || code == "Forbidden" {
		text += " (S3 gives this answer for missing objects too when the credentials may not list the bucket)"
	}
	return text
}

func (e *serviceError) Unwrap() error { return e.err }

// noSuchKey reports whether the key is missing and the bucket exists. The answer to a HEAD
// does not say which of the two is missing (Amazon S3 API, HeadObject). HEAD requests are
// made only for blobs of a bucket that has answered, or that is about to be written.
func noSuchKey(err error) bool {
	var key *types.NoSuchKey
	var head *types.NotFound
	return errors.As(err, &key) || errors.As(err, &head)
}

func (b *bucket) get(ctx context.Context, key string, offset int64) (io.ReadCloser, map[string]string, error) {
	client, err := b.client()
	if err != nil {
		return nil, nil, err
	}
	input := &s3.GetObjectInput{Bucket: &b.bucket, Key: &key}
	if offset > 0 {
		input.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	object, err := client.GetObject(ctx, input)
	if err != nil {
		return nil, nil, s3Error(err)
	}
	return object.Body, object.Metadata, nil
}

// head is the size of a blob. Where caches are written it touches an old blob, as BuildKit
// does, so that the blob does not expire. A blob that cannot be touched counts as absent, so
// that it is sent again.
func (b *bucket) head(ctx context.Context, key string) (int64, error) {
	client, err := b.client()
	if err != nil {
		return 0, err
	}
	head, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.bucket, Key: &key})
	if err != nil {
		return 0, s3Error(err)
	}
	if b.writes && time.Since(aws.ToTime(head.LastModified)) > b.touchRefresh && b.touch(ctx, client, key, head) != nil {
		return 0, ErrAbsent
	}
	return aws.ToInt64(head.ContentLength), nil
}

var errTooLarge = errors.New("too large to be copied in one request")

// touch copies an object onto itself. S3 requires that such a copy changes something; this
// metadata is what BuildKit changes.
func (b *bucket) touch(ctx context.Context, client *s3.Client, key string, head *s3.HeadObjectOutput) error {
	if aws.ToInt64(head.ContentLength) > maxCopy {
		return errTooLarge
	}
	source := strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(b.bucket + "/" + key))
	_, err := client.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &b.bucket, Key: &key, CopySource: &source,
		Metadata:          map[string]string{"updated-at": time.Now().UTC().Format(time.RFC3339)},
		MetadataDirective: types.MetadataDirectiveReplace,
	})
	return err
}
