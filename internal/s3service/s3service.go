// Package s3service is a client of S3 and of servers like it: a bucket as a store of objects.
//
//	_, bucket := s3service.New(spec)
//	err := bucket.Put(ctx, "manifests/b-main", config, nil, "") // only where there is none
package s3service

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	"golang.org/x/sync/semaphore"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

// Bucket is the objects of a bucket, by key. Its errors are the service's answers, without the key; for an object that is
// certainly missing the error is [storage.ErrAbsent]. Its methods may be called concurrently.
type Bucket struct {
	shared
	writes bool // blobs that are looked up and older than touch_refresh are touched
}

// shared is what the reading and the writing side of a cache have in common.
type shared struct {
	spec    *cachespec.S3
	slots   *semaphore.Weighted        // a slot for each concurrent upload request
	client  func() (*s3.Client, error) // made on first use; the search for credentials may block
	noParts *atomic.Bool               // the server takes objects in one request only
	old     *sync.Map                  // keys of blobs that were found and could not be touched, so that they are written again
}

// New is the bucket of a cache, for reading and for writing. It opens no connection. The two share a client.
func New(spec *cachespec.S3) (reading, writing *Bucket) {
	s := shared{spec: spec, slots: semaphore.NewWeighted(int64(spec.UploadParallelism) * storage.PartsAtOnce), noParts: new(atomic.Bool), old: new(sync.Map)}
	s.client = sync.OnceValues(s.newClient)
	return &Bucket{s, false}, &Bucket{s, true}
}

// newClient follows BuildKit's newS3Client (v0.34.2, cache/remotecache/s3/s3.go), so that one
// line means the same in both. Without credentials in the line the SDK's default chain is
// used: environment, profile, web identity, container, instance.
func (b *shared) newClient() (*s3.Client, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = storage.RequestsAtOnce // keeps a batch's connections for the next one
		t.DisableCompression = true                    // no Accept-Encoding: see unsignedEncoding
	})
	cfg, err := config.LoadDefaultConfig(context.Background(),
		config.WithRegion(b.spec.Region),
		config.WithHTTPClient(transport),
		config.WithAppID(storage.UserAgent),
		config.WithLogger(logging.Nop{}), // failures are returned as errors
		// warmlayer checks digests itself; servers other than Amazon's do not know all checksums.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	)
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration: %w", err)
	}
	if !b.spec.Credentials() {
		// Retrieved once here: on a machine without credentials the SDK would search again for every object.
		ctx, cancel := context.WithTimeout(context.Background(), storage.CredentialsTimeout)
		defer cancel()
		if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
			return nil, fmt.Errorf("no credentials in the line, the environment (AWS_ACCESS_KEY_ID), a profile or the machine's role: %w", err)
		}
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		if id := b.spec.AccessKeyID; id != "" {
			o.Credentials = credentials.NewStaticCredentialsProvider(id, b.spec.SecretAccessKey, b.spec.SessionToken)
		}
		if b.spec.EndpointURL != "" {
			o.BaseEndpoint, o.UsePathStyle = &b.spec.EndpointURL, b.spec.UsePathStyle
		}
		if b.spec.RetryMode != "" {
			o.RetryMode = aws.RetryMode(b.spec.RetryMode)
		}
		if b.spec.RetryMaxAttempts > 0 {
			o.RetryMaxAttempts = b.spec.RetryMaxAttempts
		}
		o.APIOptions = append(o.APIOptions, unsignedEncoding)
	})
	options := client.Options() // with the retryer that the configuration asks for
	if retryer, ok := options.Retryer.(aws.RetryerV2); ok {
		options.Retryer = certain{retryer}
	}
	return s3.New(options), nil
}

// certain does not repeat requests whose answer is certain: a certificate that does not verify is
// the same a moment later, while the SDK repeats every request that could not be sent. It repeats a
// request that was answered with 429, which servers other than Amazon's use: the SDK knows the
// names of errors only, and the answer to a HEAD has none.
type certain struct{ aws.RetryerV2 }

// IsErrorRetryable implements [aws.RetryerV2].
func (r certain) IsErrorRetryable(err error) bool {
	var certificate *tls.CertificateVerificationError
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusTooManyRequests {
		return true
	}
	return !errors.As(err, &certificate) && r.RetryerV2.IsErrorRetryable(err)
}

// maxRetryDelay bounds the SDK's pauses, of which there are two, so that the last try usually comes before probe-timeout.
const maxRetryDelay = time.Second

// RetryDelay implements [aws.RetryerV2].
func (r certain) RetryDelay(attempt int, err error) (time.Duration, error) {
	pause, wrong := r.RetryerV2.RetryDelay(attempt, err)
	return min(pause, maxRetryDelay), wrong
}

// unsignedEncoding leaves Accept-Encoding out of requests and of their signature, for servers
// behind a proxy that rewrites it, as Google's are (moby/buildkit#3749, aws/aws-sdk-go-v2#1816).
// BuildKit does so with the attribute disable_accept_encoding only.
func unsignedEncoding(stack *middleware.Stack) error {
	_, _ = stack.Finalize.Remove("DisableAcceptEncodingGzip") // absent from some operations
	return nil
}

// maxCopy is the largest object in bytes that S3 copies in one request.
const maxCopy = 5 << 30

// At is the address of a key, for people: "s3://bucket/manifests/b-main".
func (b *Bucket) At(key string) string { return "s3://" + b.spec.Bucket + "/" + key }

// s3Error gives the service's answer, such as "AccessDenied: Access Denied", or [storage.ErrAbsent].
func s3Error(err error) error {
	var api smithy.APIError
	switch {
	case noSuchKey(err):
		return storage.ErrAbsent
	case !errors.As(err, &api):
		return err
	case api.ErrorMessage() == "" || api.ErrorMessage() == api.ErrorCode():
		return storage.Answer{Words: api.ErrorCode(), Err: err}
	}
	return storage.Answer{Words: api.ErrorCode() + ": " + api.ErrorMessage(), Err: err}
}

// noSuchKey reports whether the key is missing and the bucket exists. The answer to a HEAD
// does not say which of the two is missing (Amazon S3 API, HeadObject). HEAD requests are
// made only for blobs of a bucket that has answered, or that is about to be written.
func noSuchKey(err error) bool {
	var key *types.NoSuchKey
	var head *types.NotFound
	return errors.As(err, &key) || errors.As(err, &head)
}

// Get streams an object from the byte at offset. A missing one is an [storage.ErrAbsent].
func (b *Bucket) Get(ctx context.Context, key string, offset int64) (storage.Object, error) {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return storage.Object{}, err
	}
	input := &s3.GetObjectInput{Bucket: &b.spec.Bucket, Key: &key}
	if offset > 0 {
		input.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	got, err := client.GetObject(ctx, input)
	if err != nil {
		return storage.Object{}, s3Error(err)
	}
	return storage.Object{ReadCloser: got.Body, Metadata: got.Metadata, Version: aws.ToString(got.ETag)}, nil
}

// Head is the size of a blob. Where caches are written it touches an old blob, as BuildKit
// does, so that the blob does not expire. A blob that cannot be touched counts as absent, so
// that it is sent again. So does one that is refused, since that is the answer for a missing
// blob where the credentials may not list the bucket; what is refused in fact is refused again
// when it is sent.
func (b *Bucket) Head(ctx context.Context, key string) (int64, error) {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return 0, err
	}
	input := &s3.HeadObjectInput{Bucket: &b.spec.Bucket, Key: &key}
	head, err := client.HeadObject(ctx, input)
	if skewed(err) {
		head, err = client.HeadObject(ctx, input)
	}
	switch {
	case b.writes && isForbidden(err):
		return 0, storage.ErrAbsent
	case err != nil:
		return 0, s3Error(err)
	}
	if b.writes && time.Since(aws.ToTime(head.LastModified)) > b.spec.TouchRefresh {
		if b.touch(ctx, client, key, head) != nil {
			b.old.Store(key, true)
			return 0, storage.ErrAbsent
		}
		return b.afterSweep(ctx, client, key)
	}
	return aws.ToInt64(head.ContentLength), nil
}

// isForbidden reports whether the answer is 403.
func isForbidden(err error) bool {
	var answer *awshttp.ResponseError
	return errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusForbidden
}

// skewed reports whether a refused request had another time than the server. The SDK signs the
// next request with the server's time. It also repeats one that was refused for its time, but the
// answer to a HEAD does not say why (aws-sdk-go-v2 v1.43.8, aws/retry/middleware.go).
func skewed(err error) bool {
	var answer *awshttp.ResponseError
	if !isForbidden(err) || !errors.As(err, &answer) {
		return false
	}
	theirs, parsed := http.ParseTime(answer.Response.Header.Get("Date"))
	return parsed == nil && time.Since(theirs).Abs() > maxSkew
}

// maxSkew is a little less than the difference from which S3 refuses a request, 15 minutes: Date is
// rounded to a second, and answers take time.
const maxSkew = 14 * time.Minute

var (
	errTooLarge = errors.New("too large to be copied in one request")
	// Servers such as versitygw v1.6 on a file system keep the time of an object that is copied onto itself.
	errNotRenewed = errors.New("the server keeps the object's time")
)

// touch copies an object onto itself. S3 requires that such a copy changes something; this
// metadata is what BuildKit changes.
func (b *Bucket) touch(ctx context.Context, client *s3.Client, key string, head *s3.HeadObjectOutput) error {
	if aws.ToInt64(head.ContentLength) > maxCopy {
		return errTooLarge
	}
	source := strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(b.spec.Bucket + "/" + key))
	copied, err := client.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &b.spec.Bucket, Key: &key, CopySource: &source,
		Metadata:          map[string]string{"updated-at": time.Now().UTC().Format(time.RFC3339)},
		MetadataDirective: types.MetadataDirectiveReplace,
	})
	if err == nil && copied.CopyObjectResult != nil && !aws.ToTime(copied.CopyObjectResult.LastModified).After(aws.ToTime(head.LastModified)) {
		err = errNotRenewed
	}
	return err
}

// Remove removes an object. It is no error when there is none.
func (b *Bucket) Remove(ctx context.Context, key string) error {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return err
	}
	_, err = client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.spec.Bucket, Key: &key})
	if err = s3Error(err); errors.Is(err, storage.ErrAbsent) {
		return nil
	}
	return err
}

// Put writes a small object, where the present one has a version, "" for none, and is [storage.ErrReplaced] otherwise. With
// [storage.AnyVersion] it always writes.
func (b *Bucket) Put(ctx context.Context, key string, content []byte, metadata map[string]string, version string) error {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return err
	}
	input := &s3.PutObjectInput{Bucket: &b.spec.Bucket, Key: &key, Metadata: metadata}
	switch version {
	case storage.AnyVersion:
	case "":
		input.IfNoneMatch = aws.String("*")
	default:
		input.IfMatch = &version
	}
	put := func() error {
		input.Body = bytes.NewReader(content)
		_, err := throttled{client, b.slots, nil}.PutObject(ctx, input)
		return err
	}
	err = b.renewing(ctx, client, key, put, put)
	switch {
	case version != storage.AnyVersion && unknown(err):
		return b.Put(ctx, key, content, metadata, storage.AnyVersion)
	case version != storage.AnyVersion && replaced(err):
		return storage.ErrReplaced
	}
	return s3Error(err)
}

// replaced reports whether an object has another version than a conditional PUT expects. An object
// that was deleted meanwhile counts as well (Amazon S3 user guide, "How to prevent object overwrites
// with conditional writes").
func replaced(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains([]string{"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}, api.ErrorCode())
}

// unknown reports whether a server does not know a request, or a condition of it.
func unknown(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "NotImplemented"
}
