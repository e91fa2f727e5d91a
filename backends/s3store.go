package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/scope"
)

// bucket is an S3 cache's objects as a store.
type bucket struct {
	*S3
	writes  bool // objects that are found are kept fresh
	configs configs
}

// statObjects bounds the HEAD requests under way at once: a cache of 100 layers
// takes four round trips. Listing the prefix would go through every blob that any
// scope ever had, a thousand at a time.
const statObjects = 32

// maxObjectDocument bounds a cache config that is read. BuildKit sets no bound here;
// what is imported of it is bounded by MaxConfig.
const maxObjectDocument = 16 << 20

// maxCopy is the largest object that S3 copies in one request.
const maxCopy = 5 << 30

func (b *bucket) manifestKey(n scope.Name) string {
	return b.prefix + b.manifests + b.name + string(n)
}

func (b *bucket) blobKey(d digest.Digest) string { return b.prefix + b.blobs + d.String() }

// fault is an error at an object, with the service's own words instead of the SDK's.
func (b *bucket) fault(what, key string, err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		err = &serviceError{api, err}
	}
	return fmt.Errorf("%s s3://%s/%s: %w", what, b.bucket, key, err)
}

// serviceError is what S3 answered: "AccessDenied: Access Denied".
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
		text += " (also the answer for a missing object to those who may not list the bucket)"
	}
	return text
}

func (e *serviceError) Unwrap() error { return e.err }

// noSuchKey: only the key is missing, not the bucket. A HEAD has no body to say which
// (Amazon S3 API, HeadObject); it is asked only for blobs of a bucket that has answered,
// or is about to be written.
func noSuchKey(err error) bool {
	var key *types.NoSuchKey
	var head *types.NotFound
	return errors.As(err, &key) || errors.As(err, &head)
}

// Manifest implements [Scopes].
func (b *bucket) Manifest(ctx context.Context, n scope.Name) (Manifest, error) {
	key := b.manifestKey(n)
	object, err := b.get(ctx, key, 0)
	if err != nil {
		return Manifest{}, err
	}
	defer object.Body.Close()
	config, err := io.ReadAll(io.LimitReader(object.Body, maxObjectDocument+1))
	if err == nil && len(config) > maxObjectDocument {
		err = fmt.Errorf("it is larger than %d bytes", maxObjectDocument)
	}
	if err != nil {
		return Manifest{}, b.fault("read", key, err)
	}
	m, err := configManifest(config, metadataRecord(object.Metadata))
	if err != nil {
		return Manifest{}, b.fault("read", key, err)
	}
	return m, nil
}

// Open implements [Scopes].
func (b *bucket) Open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	object, err := b.get(ctx, b.blobKey(d), offset)
	if err != nil {
		return nil, err
	}
	return object.Body, nil
}

func (b *bucket) get(ctx context.Context, key string, offset int64) (*s3.GetObjectOutput, error) {
	client, err := b.client()
	if err != nil {
		return nil, err
	}
	input := &s3.GetObjectInput{Bucket: &b.bucket, Key: &key}
	if offset > 0 {
		input.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	object, err := client.GetObject(ctx, input)
	if noSuchKey(err) {
		err = ErrAbsent
	}
	if err != nil {
		return nil, b.fault("read", key, err)
	}
	return object, nil
}

// Stat implements [Scopes], with a HEAD request for each blob. Where caches are
// written, a blob that is old is made young, as BuildKit does, lest it expires; one that
// cannot be is left out, so that it is sent again.
func (b *bucket) Stat(ctx context.Context, digests []digest.Digest) (map[digest.Digest]int64, error) {
	client, err := b.client()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	sizes := map[digest.Digest]int64{}
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(statObjects)
	for _, d := range digests {
		eg.Go(func() error {
			key := b.blobKey(d)
			head, err := b.head(ctx, client, key)
			if noSuchKey(err) {
				return nil
			}
			if err != nil {
				return b.fault("stat", key, err)
			}
			if b.writes && time.Since(aws.ToTime(head.LastModified)) > b.touchRefresh && b.touch(ctx, client, key, head) != nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			sizes[d] = aws.ToInt64(head.ContentLength)
			return nil
		})
	}
	return sizes, eg.Wait()
}

// head asks for an object. Scopes that are read at once name mostly the same blobs: one
// request serves all who want its answer meanwhile. It so outlives those who cannot wait.
func (b *bucket) head(ctx context.Context, client *s3.Client, key string) (*s3.HeadObjectOutput, error) {
	answer := b.heads.DoChan(key, func() (any, error) {
		return client.HeadObject(context.WithoutCancel(ctx), &s3.HeadObjectInput{Bucket: &b.bucket, Key: &key})
	})
	select {
	case a := <-answer:
		head, _ := a.Val.(*s3.HeadObjectOutput) // nil with an error
		return head, a.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

var errTooLarge = errors.New("too large to be copied in one request")

// touch copies an object onto itself, which needs a change of something: BuildKit
// changes the same metadata.
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

// Put implements [Store]. A cache config is kept until PutManifest wants it: here it is
// no blob.
func (b *bucket) Put(ctx context.Context, desc ocispecs.Descriptor, r io.Reader) error {
	key := b.blobKey(desc.Digest)
	body := &verified{from: r, desc: desc, verifier: desc.Digest.Verifier()}
	if desc.Size > MaxConfig {
		return b.upload(ctx, key, body, desc.Size)
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return b.fault("write", key, err)
	}
	if b.configs.hold(desc.Digest, content) {
		return nil
	}
	return b.write(ctx, key, content, nil)
}

// PutManifest implements [Scopes].
func (b *bucket) PutManifest(ctx context.Context, n scope.Name, m Manifest) error {
	key := b.manifestKey(n)
	config := m.Inline
	if config == nil {
		plain, err := b.config(ctx, m.Config)
		if err != nil {
			return b.fault("write", key, err)
		}
		if config, err = annotateConfig(plain, m.Layers); err != nil {
			return b.fault("write", key, err)
		}
	}
	return b.write(ctx, key, config, m.Record.metadata())
}

// config is a cache config that was put, which lies in memory unless it is large.
func (b *bucket) config(ctx context.Context, desc ocispecs.Descriptor) ([]byte, error) {
	if held := b.configs.config(desc.Digest); held != nil {
		return held, nil
	}
	blob, err := b.Open(ctx, desc.Digest, 0)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(&verified{from: io.LimitReader(blob, maxObjectDocument), desc: desc, verifier: desc.Digest.Verifier()})
}
