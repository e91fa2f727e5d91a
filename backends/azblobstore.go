package backends

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
)

// blobContainer is the objects of an Azblob cache. One that is missing is made by the
// first write, as BuildKit does; until then, nothing is in it.
type blobContainer struct{ *Azblob }

func (b *blobContainer) at(key string) string { return b.url + "/" + b.container + "/" + key }

func (b *blobContainer) head(ctx context.Context, key string) (int64, error) {
	client, err := b.client()
	if err != nil {
		return 0, err
	}
	head, err := client.NewBlobClient(key).GetProperties(ctx, nil)
	if err = b.readError(err); err != nil {
		return 0, err
	}
	return *head.ContentLength, nil
}

func (b *blobContainer) get(ctx context.Context, key string, offset int64) (io.ReadCloser, map[string]string, error) {
	client, err := b.client()
	if err != nil {
		return nil, nil, err
	}
	object, err := client.NewBlobClient(key).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset}})
	if err = b.readError(err); err != nil {
		return nil, nil, err
	}
	metadata := map[string]string{}
	for k, v := range object.Metadata {
		metadata[strings.ToLower(k)] = *v // Go writes headers with capitals
	}
	return object.NewRetryReader(ctx, nil), metadata, nil
}

func (b *blobContainer) put(ctx context.Context, key string, content []byte, metadata map[string]string) error {
	target, err := b.target(ctx, key)
	if err != nil {
		return err
	}
	options := &blockblob.UploadOptions{Metadata: map[string]*string{}}
	for k, v := range metadata {
		options.Metadata[k] = to.Ptr(v)
	}
	_, err = target.Upload(ctx, streaming.NopCloser(bytes.NewReader(content)), options)
	return azureError(err)
}

// upload implements service, in blocks. Those of one that breaks off are no blob; the
// service drops them after a week.
func (b *blobContainer) upload(ctx context.Context, key string, body io.Reader, size int64) error {
	target, err := b.target(ctx, key)
	if err != nil {
		return err
	}
	_, err = target.UploadStream(ctx, body, &blockblob.UploadStreamOptions{BlockSize: partSize, Concurrency: partsAtOnce})
	if bloberror.HasCode(err, bloberror.InvalidBlockList) {
		// Another upload of this blob came to its end first, which drops all other blocks.
		if there, headErr := b.head(ctx, key); headErr == nil && there == size {
			return nil
		}
	}
	return azureError(err)
}

// target is a blob to be written, in a container that is there.
func (b *blobContainer) target(ctx context.Context, key string) (*blockblob.Client, error) {
	client, err := b.client()
	if err != nil {
		return nil, err
	}
	if b.exists.Load() {
		return client.NewBlockBlobClient(key), nil
	}
	_, err = client.GetProperties(ctx, nil)
	if bloberror.HasCode(err, bloberror.ContainerNotFound) {
		_, err = client.Create(ctx, nil)
	}
	if err != nil && !bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
		return nil, fmt.Errorf("make the container: %w", azureError(err))
	}
	b.exists.Store(true)
	return client.NewBlockBlobClient(key), nil
}

// readError tells a missing blob from a missing container, which has no blobs either,
// and both from everything else.
func (b *blobContainer) readError(err error) error {
	switch {
	case bloberror.HasCode(err, bloberror.ContainerNotFound):
		return fmt.Errorf("there is no container %s: %w", b.container, ErrAbsent)
	case bloberror.HasCode(err, bloberror.BlobNotFound):
		err = ErrAbsent
		fallthrough
	case err == nil:
		b.exists.Store(true)
		return err
	}
	return azureError(err)
}

// azureError is what the service answered, without the page that the SDK makes of it.
func azureError(err error) error {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return &responseError{response}
	}
	return err
}

// responseError is an answer of Azure's: "AuthenticationFailed", or where it gives no
// code, "HTTP status 502".
type responseError struct{ *azcore.ResponseError }

func (e *responseError) Error() string {
	switch bloberror.Code(e.ErrorCode) {
	case "":
		return fmt.Sprintf("HTTP status %d", e.StatusCode)
	case bloberror.AuthenticationFailed:
		return e.ErrorCode + " (is the key, or the identity, one of this account's?)"
	case bloberror.AuthorizationPermissionMismatch:
		return e.ErrorCode + " (to write caches an identity needs the role Storage Blob Data Contributor, to read them Storage Blob Data Reader)"
	}
	return e.ErrorCode
}

func (e *responseError) Unwrap() error { return e.ResponseError }
