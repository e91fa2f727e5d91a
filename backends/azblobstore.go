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

// blobContainer is the service of an Azblob cache. The first write creates a missing
// container, as BuildKit does; until then all its blobs are absent.
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
		metadata[strings.ToLower(k)] = *v // Go capitalizes headers
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

// upload implements service, in blocks. Only a complete upload commits its blocks as a blob;
// the service drops uncommitted blocks after a week.
func (b *blobContainer) upload(ctx context.Context, key string, body io.Reader, size int64) error {
	target, err := b.target(ctx, key)
	if err != nil {
		return err
	}
	_, err = target.UploadStream(ctx, body, &blockblob.UploadStreamOptions{BlockSize: partSize, Concurrency: partsAtOnce})
	if bloberror.HasCode(err, bloberror.InvalidBlockList) {
		// Another upload of this blob was committed first, and the service dropped these blocks.
		if there, headErr := b.head(ctx, key); headErr == nil && there == size {
			return nil
		}
	}
	return azureError(err)
}

// target is a client for the blob that is to be written. It creates a missing container.
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
		return nil, fmt.Errorf("create the container: %w", azureError(err))
	}
	b.exists.Store(true)
	return client.NewBlockBlobClient(key), nil
}

// readError is [ErrAbsent] for a missing blob and for a missing container, each with its own
// text, and the service's answer for all other errors.
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

// azureError is the service's answer, without the SDK's text of many lines.
func azureError(err error) error {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return &responseError{response}
	}
	return err
}

// responseError is an answer of Azure: its error code, such as "AuthenticationFailed", or
// without a code "HTTP status 502".
type responseError struct{ *azcore.ResponseError }

func (e *responseError) Error() string {
	switch bloberror.Code(e.ErrorCode) {
	case "":
		return fmt.Sprintf("HTTP status %d", e.StatusCode)
	case bloberror.AuthenticationFailed:
		return e.ErrorCode + " (check that the key or the identity belongs to this account)"
	case bloberror.AuthorizationPermissionMismatch:
		return e.ErrorCode + " (the identity needs the role Storage Blob Data Contributor to write caches, or Storage Blob Data Reader to read them)"
	}
	return e.ErrorCode
}

func (e *responseError) Unwrap() error { return e.ResponseError }
