package backends

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
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/waiting"
)

// Azblob is a cache in a container of Azure Blob Storage, in the blobs that BuildKit
// keeps there (v0.34.2, cache/remotecache/azblob/utils.go): <prefix>/blobs/<digest>, and
// <prefix>/manifests/<name> with an annotated cache config, each joined as a path. The
// scope N has the name N, or <name>-N.
type Azblob struct {
	objectCache
	spec *cachespec.Azblob

	client func() (*container.Client, error) // made on first use; the search for an identity may block
	exists atomic.Bool                       // the container is known to exist
}

func newAzblob(spec *cachespec.Azblob, _ authn.Keychain) *Azblob {
	c := &Azblob{objectCache: objectCache{Config: spec, name: spec.Name, place: spec.Place(), options: []string{"mode"}}, spec: spec}
	if spec.Credentials() {
		c.credentials = map[string]string{"secret_access_key": spec.SecretAccessKey}
	}
	c.client = sync.OnceValues(c.newClient)
	c.source = &objects{service: &blobContainer{c}, blobs: spec.Blobs(), manifests: spec.Manifests()}
	c.destination = c.source
	return c
}

// retryDelay is the first pause of the SDK's three retries. It is so short that the last
// retry usually comes before probe-timeout.
const retryDelay = 200 * time.Millisecond

// newClient follows BuildKit's createContainerClient (v0.34.2,
// cache/remotecache/azblob/utils.go), so that one line means the same in both. Without a key
// in the line the SDK's default chain is used: environment, workload identity, managed
// identity, az and azd.
func (c *Azblob) newClient() (*container.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = statObjects // keeps a batch's connections for the next one
	options := &container.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: &http.Client{Transport: transport},
		Retry:     policy.RetryOptions{RetryDelay: retryDelay},
		Telemetry: policy.TelemetryOptions{ApplicationID: storage.UserAgent},

		PerCallPolicies: []policy.Policy{storage.Checksums{}},
	}}
	place := c.spec.AccountURL + "/" + c.spec.Container
	if secret := c.spec.SecretAccessKey; secret != "" {
		key, err := container.NewSharedKeyCredential(c.spec.AccountName, secret)
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
	ctx, cancel := context.WithTimeout(context.Background(), credentialsTimeout)
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

// blobContainer is the service of an Azblob cache. The first write creates a missing
// container, as BuildKit does; until then all its blobs are absent.
type blobContainer struct{ *Azblob }

// At implements service.
func (b *blobContainer) At(key string) string {
	return b.spec.AccountURL + "/" + b.spec.Container + "/" + key
}

// Head implements service.
func (b *blobContainer) Head(ctx context.Context, key string) (int64, error) {
	client, err := waiting.Within(ctx, b.client)
	if err != nil {
		return 0, err
	}
	head, err := client.NewBlobClient(key).GetProperties(ctx, nil)
	if err = b.readError(err); err != nil {
		return 0, err
	}
	return *head.ContentLength, nil
}

// Get implements service.
func (b *blobContainer) Get(ctx context.Context, key string, offset int64) (storage.Object, error) {
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

// Put implements service.
func (b *blobContainer) Put(ctx context.Context, key string, content []byte, metadata map[string]string, version string) error {
	target, err := b.target(ctx, key)
	if err != nil {
		return err
	}
	options := &blockblob.UploadOptions{Metadata: map[string]*string{}}
	for k, v := range metadata {
		options.Metadata[k] = to.Ptr(v)
	}
	switch version {
	case AnyVersion:
	case "":
		options.AccessConditions = condition(blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)})
	default:
		options.AccessConditions = condition(blob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(version))})
	}
	_, err = target.Upload(ctx, streaming.NopCloser(bytes.NewReader(content)), options)
	if version != AnyVersion && bloberror.HasCode(err, bloberror.ConditionNotMet, bloberror.BlobAlreadyExists, bloberror.BlobNotFound) {
		return ErrReplaced
	}
	return storage.AzureError(err)
}

func condition(modified blob.ModifiedAccessConditions) *blob.AccessConditions {
	return &blob.AccessConditions{ModifiedAccessConditions: &modified}
}

// Upload implements service, in blocks. Only a complete upload commits its blocks as a blob;
// the service drops uncommitted blocks after a week.
func (b *blobContainer) Upload(ctx context.Context, key string, body io.Reader, size int64) error {
	target, err := b.target(ctx, key)
	if err != nil {
		return err
	}
	_, err = target.UploadStream(ctx, body, &blockblob.UploadStreamOptions{BlockSize: partSize, Concurrency: partsAtOnce})
	if bloberror.HasCode(err, bloberror.InvalidBlockList) {
		// Another upload of this blob was committed first, and the service dropped these blocks.
		if there, headErr := b.Head(ctx, key); headErr == nil && there == size {
			return nil
		}
	}
	return storage.AzureError(err)
}

// Remove implements remover.
func (b *blobContainer) Remove(ctx context.Context, key string) error {
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
func (b *blobContainer) target(ctx context.Context, key string) (*blockblob.Client, error) {
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

// readError is [ErrAbsent] for a missing blob and for a missing container, each with its own
// text, and the service's answer for all other errors.
func (b *blobContainer) readError(err error) error {
	switch {
	case bloberror.HasCode(err, bloberror.ContainerNotFound):
		return fmt.Errorf("there is no container %s: %w", b.spec.Container, ErrAbsent)
	case bloberror.HasCode(err, bloberror.BlobNotFound):
		err = ErrAbsent
		fallthrough
	case err == nil:
		b.exists.Store(true)
		return err
	}
	return storage.AzureError(err)
}
