package backends

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
	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/semaphore"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

// S3 is a cache in a bucket, in the objects that BuildKit keeps there (v0.34.2,
// cache/remotecache/s3/s3.go): <prefix>blobs/<digest>, and <prefix>manifests/<name>
// with an annotated cache config. The scope N has the name N, or <name>-N.
type S3 struct {
	objectCache
	spec  *cachespec.S3
	slots *semaphore.Weighted // a slot for each concurrent upload request

	client  func() (*s3.Client, error) // made on first use; the search for credentials may block
	noParts atomic.Bool                // the server takes objects in one request only
}

func newS3(spec *cachespec.S3, _ authn.Keychain) *S3 {
	c := &S3{
		objectCache: objectCache{
			Config: spec, name: spec.Name, place: spec.Place(), credentials: spec.KeyPair(),
			options: []string{"mode", "compression", "compression-level", "force-compression"},
		},
		spec: spec, slots: semaphore.NewWeighted(int64(spec.UploadParallelism) * partsAtOnce),
	}
	c.client = sync.OnceValues(c.newClient)
	c.source, c.destination = c.objects(false), c.objects(true)
	return c
}

func (c *S3) objects(writes bool) *objects {
	return &objects{service: &bucket{c, writes}, blobs: c.spec.Blobs(), manifests: c.spec.Manifests()}
}

// newClient follows BuildKit's newS3Client (v0.34.2, cache/remotecache/s3/s3.go), so that one
// line means the same in both. Without credentials in the line the SDK's default chain is
// used: environment, profile, web identity, container, instance.
func (c *S3) newClient() (*s3.Client, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = statObjects // keeps a batch's connections for the next one
		t.DisableCompression = true         // no Accept-Encoding: see unsignedEncoding
	})
	cfg, err := config.LoadDefaultConfig(context.Background(),
		config.WithRegion(c.spec.Region),
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
	if len(c.credentials) == 0 {
		// Retrieved once here: on a machine without credentials the SDK would search again for every object.
		ctx, cancel := context.WithTimeout(context.Background(), credentialsTimeout)
		defer cancel()
		if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
			return nil, fmt.Errorf("no credentials in the line, the environment (AWS_ACCESS_KEY_ID), a profile or the machine's role: %w", err)
		}
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
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

// bucket is the objects of an S3 cache.
type bucket struct {
	*S3
	writes bool // blobs that are looked up and older than touchRefresh are touched
}

// maxCopy is the largest object in bytes that S3 copies in one request.
const maxCopy = 5 << 30

// At implements service.
func (b *bucket) At(key string) string { return "s3://" + b.spec.Bucket + "/" + key }

// s3Error gives the service's answer, such as "AccessDenied: Access Denied", or [ErrAbsent].
func s3Error(err error) error {
	var api smithy.APIError
	switch {
	case noSuchKey(err):
		return ErrAbsent
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

// Get implements service.
func (b *bucket) Get(ctx context.Context, key string, offset int64) (storage.Object, error) {
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
func (b *bucket) Head(ctx context.Context, key string) (int64, error) {
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
		return 0, ErrAbsent
	case err != nil:
		return 0, s3Error(err)
	}
	if b.writes && time.Since(aws.ToTime(head.LastModified)) > b.spec.TouchRefresh && b.touch(ctx, client, key, head) != nil {
		return 0, ErrAbsent
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

// Remove implements remover.
func (b *bucket) Remove(ctx context.Context, key string) error {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return err
	}
	_, err = client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.spec.Bucket, Key: &key})
	if err = s3Error(err); errors.Is(err, ErrAbsent) {
		return nil
	}
	return err
}

// Put implements service.
func (b *bucket) Put(ctx context.Context, key string, content []byte, metadata map[string]string, version string) error {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return err
	}
	input := &s3.PutObjectInput{Bucket: &b.spec.Bucket, Key: &key, Body: bytes.NewReader(content), Metadata: metadata}
	switch version {
	case AnyVersion:
	case "":
		input.IfNoneMatch = aws.String("*")
	default:
		input.IfMatch = &version
	}
	_, err = throttled{client, b.slots, nil}.PutObject(ctx, input)
	switch {
	case version != AnyVersion && unconditional(err):
		return b.Put(ctx, key, content, metadata, AnyVersion)
	case version != AnyVersion && replaced(err):
		return ErrReplaced
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

// unconditional reports whether a server does not know conditional PUTs.
func unconditional(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "NotImplemented"
}
