package backends

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/semaphore"

	"github.com/warmlayer/warmlayer/internal/cachespec"
)

// S3 is a cache in a bucket, in the objects that BuildKit keeps there (v0.33.1,
// cache/remotecache/s3/s3.go): <prefix>blobs/<digest>, and <prefix>manifests/<name>
// with an annotated cache config. The scope N has the name N, or <name>-N.
type S3 struct {
	objectCache
	spec  *cachespec.S3
	slots *semaphore.Weighted // a slot for each concurrent upload request

	client func() (*s3.Client, error) // made on first use; the search for credentials may block
}

func newS3(spec *cachespec.S3, _ authn.Keychain) *S3 {
	c := &S3{
		objectCache: objectCache{Config: spec, name: spec.Name, place: spec.Place(), credentials: spec.KeyPair()},
		spec:        spec, slots: semaphore.NewWeighted(int64(spec.UploadParallelism) * partsAtOnce),
	}
	c.client = sync.OnceValues(c.newClient)
	c.source, c.destination = c.objects(false), c.objects(true)
	return c
}

func (c *S3) objects(writes bool) *objects {
	return &objects{service: &bucket{c, writes}, blobs: c.spec.Blobs(), manifests: c.spec.Manifests()}
}

// newClient follows BuildKit's newS3Client (v0.33.1, cache/remotecache/s3/s3.go), so that one
// line means the same in both. Without credentials in the line the SDK's default chain is
// used: environment, profile, web identity, container, instance.
func (c *S3) newClient() (*s3.Client, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = statObjects // keeps a batch's connections for the next one
	})
	cfg, err := config.LoadDefaultConfig(context.Background(),
		config.WithRegion(c.spec.Region),
		config.WithHTTPClient(transport),
		config.WithLogger(logging.Nop{}), // failures are returned as errors
		// warmlayer checks digests itself; servers other than Amazon's do not know all checksums.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	)
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration: %w", err)
	}
	if len(c.credentials) == 0 {
		// Retrieved once here: on a machine without credentials the SDK would search again for every object.
		ctx, cancel := context.WithTimeout(context.Background(), credentialsTimeout)
		defer cancel()
		if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
			return nil, fmt.Errorf("no credentials in the line, the environment (AWS_ACCESS_KEY_ID), a profile or the machine's role: %w", err)
		}
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		if id := c.spec.AccessKeyID; id != "" {
			o.Credentials = credentials.NewStaticCredentialsProvider(id, c.spec.SecretAccessKey, c.spec.SessionToken)
		}
		if c.spec.EndpointURL != "" {
			o.BaseEndpoint, o.UsePathStyle = &c.spec.EndpointURL, c.spec.UsePathStyle
		}
		if c.spec.RetryMode != "" {
			o.RetryMode = aws.RetryMode(c.spec.RetryMode)
		}
		if c.spec.RetryMaxAttempts > 0 {
			o.RetryMaxAttempts = c.spec.RetryMaxAttempts
		}
		if c.spec.DisableAcceptEncoding {
			o.APIOptions = append(o.APIOptions, unsignedEncoding)
		}
	}), nil
}

// unsignedEncoding leaves Accept-Encoding out of the signature, for servers behind a
// proxy that rewrites it (moby/buildkit#3749).
func unsignedEncoding(stack *middleware.Stack) error {
	_, _ = stack.Finalize.Remove("DisableAcceptEncodingGzip") // absent from some operations
	return nil
}

// bucket is the objects of an S3 cache.
type bucket struct {
	*S3
	writes bool // blobs that are looked up and older than touchRefresh are touched
}

// maxCopy is the largest object in bytes that S3 copies in one request.
const maxCopy = 5 << 30

func (b *bucket) at(key string) string { return "s3://" + b.spec.Bucket + "/" + key }

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
	client, err := within(ctx, b.client)
	if err != nil {
		return nil, nil, err
	}
	input := &s3.GetObjectInput{Bucket: &b.spec.Bucket, Key: &key}
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
	client, err := within(ctx, b.client)
	if err != nil {
		return 0, err
	}
	head, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.spec.Bucket, Key: &key})
	if err != nil {
		return 0, s3Error(err)
	}
	if b.writes && time.Since(aws.ToTime(head.LastModified)) > b.spec.TouchRefresh && b.touch(ctx, client, key, head) != nil {
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
	source := strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(b.spec.Bucket + "/" + key))
	_, err := client.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &b.spec.Bucket, Key: &key, CopySource: &source,
		Metadata:          map[string]string{"updated-at": time.Now().UTC().Format(time.RFC3339)},
		MetadataDirective: types.MetadataDirectiveReplace,
	})
	return err
}

// put implements service.
func (b *bucket) put(ctx context.Context, key string, content []byte, metadata map[string]string) error {
	client, err := within(ctx, b.client)
	if err != nil {
		return err
	}
	_, err = throttled{client, b.slots}.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.spec.Bucket, Key: &key, Body: bytes.NewReader(content), Metadata: metadata,
	})
	return s3Error(err)
}

// upload implements service, in parts.
func (b *bucket) upload(ctx context.Context, key string, body io.Reader, size int64) error {
	client, err := within(ctx, b.client)
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
		Bucket: &b.spec.Bucket, Key: &key, Body: body, ContentLength: &size,
	})
	return s3Error(err)
}

// throttled is a client with at most as many concurrent upload requests as slots. A slot is
// held for one request, not for a whole blob: otherwise two stores that take the same blobs
// could wait for each other.
type throttled struct {
	*s3.Client
	slots *semaphore.Weighted
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
