// Package azureservice is a client of Azure Blob Storage: a container as a store of objects.
//
//	_, container := azureservice.New(spec)
//	err := container.Put(ctx, "manifests/b-main", config, nil, "") // only where there is none
package azureservice

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

// Container is the blobs of a container, by name. Its errors are the service's answers, without the name; for a blob that is
// certainly missing the error is [storage.ErrAbsent]. The first write creates a missing container, as BuildKit does; until
// then all its blobs are absent. Its methods may be called concurrently.
type Container struct {
	shared
	writes bool // blobs that are looked up and older than touch_refresh are touched
}

// shared is what the reading and the writing side of a cache have in common.
type shared struct {
	spec   *cachespec.Azblob
	client func() (*container.Client, error) // made on first use; the search for an identity may block
	exists *atomic.Bool                      // the container is known to exist
}

// New is the container of a cache, for reading and for writing. It opens no connection. The two share a client.
func New(spec *cachespec.Azblob) (reading, writing *Container) {
	s := shared{spec: spec, exists: new(atomic.Bool)}
	s.client = sync.OnceValues(s.newClient)
	return &Container{s, false}, &Container{s, true}
}

// retryDelay is the first pause of the SDK's three retries. It is so short that the last
// retry usually comes before probe-timeout.
const retryDelay = 200 * time.Millisecond

// newClient follows BuildKit's createContainerClient (v0.34.2,
// cache/remotecache/azblob/utils.go), so that one line means the same in both. Without a key
// in the line the SDK's default chain is used: environment, workload identity, managed
// identity, az and azd.
func (b *shared) newClient() (*container.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = storage.RequestsAtOnce // keeps a batch's connections for the next one
	options := &container.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: &http.Client{Transport: transport},
		Retry:     policy.RetryOptions{RetryDelay: retryDelay},
		Telemetry: policy.TelemetryOptions{ApplicationID: storage.UserAgent},

		PerCallPolicies: []policy.Policy{storage.Checksums{}},
	}}
	place := b.spec.AccountURL + "/" + b.spec.Container
	if secret := b.spec.SecretAccessKey; secret != "" {
		key, err := container.NewSharedKeyCredential(b.spec.AccountName, secret)
		if err != nil {
			return nil, fmt.Errorf("use secret_access_key: %w", err)
		}
		return container.NewClientWithSharedKeyCredential(place, key, options)
	}
	identity, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, fmt.Errorf("look for an identity: %w", err)
	}
	// Asked for once here: on a machine without an identity the SDK would search again for every blob.
	ctx, cancel := context.WithTimeout(context.Background(), storage.CredentialsTimeout)
	defer cancel()
	if _, err := identity.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{storageScope}}); err != nil {
		return nil, fmt.Errorf("no secret_access_key in the line, and no identity in the environment (AZURE_CLIENT_ID, …), of the workload, of the machine or from az login: %s", oneLine(err))
	}
	return container.NewClient(place, identity, options)
}

// storageScope is the scope of tokens for Blob Storage (azblob v1.5.0, internal/shared).
const storageScope = "https://storage.azure.com/.default"

// oneLine joins the lines of the SDK's error, which lists each identity that it tried, and
// drops its rulers of hyphens.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); strings.Trim(line, "-") != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// At is the address of a blob, for people.
func (b *Container) At(key string) string {
	return b.spec.AccountURL + "/" + b.spec.Container + "/" + key
}

// Head is the size of a blob in bytes. Where caches are written it touches an old blob, so that a prune that runs at the same
// time keeps it. One that cannot be touched counts as absent, so that it is sent again.
func (b *Container) Head(ctx context.Context, key string) (int64, error) {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return 0, err
	}
	head, err := client.NewBlobClient(key).GetProperties(ctx, nil)
	if err = b.readError(err); err != nil {
		return 0, err
	}
	if b.writes && time.Since(*head.LastModified) > b.spec.TouchRefresh && b.touch(ctx, client, key) != nil {
		return 0, storage.ErrAbsent
	}
	return *head.ContentLength, nil
}

// Get streams a blob from the byte at offset. A missing one is an [storage.ErrAbsent].
func (b *Container) Get(ctx context.Context, key string, offset int64) (storage.Object, error) {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return storage.Object{}, err
	}
	got, err := client.NewBlobClient(key).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset}})
	if err = b.readError(err); err != nil {
		return storage.Object{}, err
	}
	metadata := map[string]string{}
	for k, v := range got.Metadata {
		metadata[strings.ToLower(k)] = *v // Go capitalizes headers
	}
	// Not the SDK's reader that retries: it does so without end while each try brings some bytes.
	out := storage.Object{ReadCloser: got.Body, Metadata: metadata}
	if got.ETag != nil {
		out.Version = string(*got.ETag)
	}
	return out, nil
}

// Put writes a small blob, where the present one has a version, "" for none, and is [storage.ErrReplaced] otherwise. With
// [storage.AnyVersion] it always writes.
func (b *Container) Put(ctx context.Context, key string, content []byte, metadata map[string]string, version string) error {
	target, err := b.target(ctx, key)
	if err != nil {
		return err
	}
	options := &blockblob.UploadOptions{Metadata: map[string]*string{}}
	for k, v := range metadata {
		options.Metadata[k] = to.Ptr(v)
	}
	switch version {
	case storage.AnyVersion:
	case "":
		options.AccessConditions = condition(blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)})
	default:
		options.AccessConditions = condition(blob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(version))})
	}
	_, err = target.Upload(ctx, streaming.NopCloser(bytes.NewReader(content)), options)
	if version != storage.AnyVersion && bloberror.HasCode(err, bloberror.ConditionNotMet, bloberror.BlobAlreadyExists, bloberror.BlobNotFound) {
		return storage.ErrReplaced
	}
	return storage.AzureError(err)
}

func condition(modified blob.ModifiedAccessConditions) *blob.AccessConditions {
	return &blob.AccessConditions{ModifiedAccessConditions: &modified}
}

// Upload streams a blob of size bytes, in blocks. Only a complete upload commits its blocks as a blob;
// the service drops uncommitted blocks after a week.
func (b *Container) Upload(ctx context.Context, key string, body io.Reader, size int64) error {
	target, err := b.target(ctx, key)
	if err != nil {
		return err
	}
	_, err = target.UploadStream(ctx, body, &blockblob.UploadStreamOptions{BlockSize: storage.PartSize, Concurrency: storage.PartsAtOnce})
	if bloberror.HasCode(err, bloberror.InvalidBlockList) {
		// Another upload of this blob was committed first, and the service dropped these blocks.
		if there, headErr := b.Head(ctx, key); headErr == nil && there == size {
			return nil
		}
	}
	return storage.AzureError(err)
}

// Remove removes a blob. It is no error when there is none.
func (b *Container) Remove(ctx context.Context, key string) error {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return err
	}
	if _, err = client.NewBlobClient(key).Delete(ctx, nil); bloberror.HasCode(err, bloberror.BlobNotFound) {
		return nil
	}
	return storage.AzureError(err)
}

// target is a client for the blob that is to be written. It creates a missing container.
func (b *Container) target(ctx context.Context, key string) (*blockblob.Client, error) {
	client, err := waiting.Within(ctx, b.client)
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
		return nil, fmt.Errorf("create the container: %w", storage.AzureError(err))
	}
	b.exists.Store(true)
	return client.NewBlockBlobClient(key), nil
}

// readError is [storage.ErrAbsent] for a missing blob and for a missing container, each with its own
// text, and the service's answer for all other errors.
func (b *Container) readError(err error) error {
	switch {
	case bloberror.HasCode(err, bloberror.ContainerNotFound):
		return fmt.Errorf("there is no container %s: %w", b.spec.Container, storage.ErrAbsent)
	case bloberror.HasCode(err, bloberror.BlobNotFound):
		err = storage.ErrAbsent
		fallthrough
	case err == nil:
		b.exists.Store(true)
		return err
	}
	return storage.AzureError(err)
}
