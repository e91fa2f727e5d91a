package backends

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/scope"
)

// digestKey is the metadata of a scope's manifest that has its SHA-256 in hexadecimal: no digest
// names the document, in which a changed number would lead a step to another step's layer. Objects
// that BuildKit itself wrote have none.
const digestKey = "warmlayer_sha256"

// A service keeps objects by key. Its errors are the service's answers, without the key. For
// an object that is certainly missing the error is [ErrAbsent].
type service interface {
	// At is the address of a key, for people: "s3://bucket/manifests/b-main".
	At(key string) string
	// Head is the size of an object in bytes, or [UnknownSize].
	Head(ctx context.Context, key string) (int64, error)
	// Get streams an object from the byte at offset.
	Get(ctx context.Context, key string, offset int64) (storage.Object, error)
	// Put writes a small object, where the present one has a version, "" for none, and is
	// [ErrReplaced] otherwise. With [AnyVersion] it always writes.
	Put(ctx context.Context, key string, content []byte, metadata map[string]string, version string) error
	// Upload streams an object of size bytes. The object is created only if body is read
	// to its end without an error.
	Upload(ctx context.Context, key string, body io.Reader, size int64) error
}

// objects is a store on a service. A blob is an object, and so is a scope's manifest, in
// the form of cacheconfig.go.
type objects struct {
	service          service
	blobs, manifests string             // prefixes of the keys: a digest, or a scope's name, follows
	heads            singleflight.Group // concurrent HEAD requests, by key
	configs          configs

	folder string        // prefix of the keys of all manifests, those of other caches and programs among them
	touch  time.Duration // age of a blob from which a build that finds it touches it
	shared string        // why blobs may be named by manifests elsewhere; "": they are not
}

// objectPlace is where the objects of a cache are.
type objectPlace interface {
	Blobs() string          // prefix of blobs' keys, before the digest
	Manifests() string      // prefix of manifests' keys, before the scope's name
	ManifestFolder() string // prefix of the keys of all manifests
	SharedBlobs() string    // why other manifests than those in the folder may name the blobs; "": they do not
}

func newObjects(s service, at objectPlace, touch time.Duration) *objects {
	return &objects{service: s, blobs: at.Blobs(), manifests: at.Manifests(), folder: at.ManifestFolder(), touch: touch, shared: at.SharedBlobs()}
}

// maxObjectDocument is the largest cache config in bytes that is read. BuildKit sets no limit
// here; the config that it imports in the end is limited by MaxConfig.
const maxObjectDocument = 16 << 20

// wholeBlob is the largest size in bytes of a blob that is sent in one request, from memory.
// An upload in parts takes two more round trips.
const wholeBlob = 16 << 20

// headTimeout bounds a HEAD request whose callers have left.
const headTimeout = 30 * time.Second

func (o *objects) blobKey(d digest.Digest) string { return o.blobs + d.String() }

func (o *objects) fault(what, key string, err error) error {
	return fmt.Errorf("%s %s: %w", what, o.service.At(key), err)
}

// Manifest implements [Scopes].
func (o *objects) Manifest(ctx context.Context, n scope.Name) (Manifest, error) {
	key := o.manifests + string(n)
	m, err := o.manifest(ctx, key)
	if err != nil {
		return Manifest{}, o.fault("read", key, err)
	}
	return m, nil
}

func (o *objects) manifest(ctx context.Context, key string) (Manifest, error) {
	body, err := o.service.Get(ctx, key, 0)
	if err != nil {
		return Manifest{}, err
	}
	defer body.Close()
	config, err := io.ReadAll(io.LimitReader(body, maxObjectDocument+1))
	if err == nil && len(config) > maxObjectDocument {
		err = fmt.Errorf("it is larger than %d bytes", maxObjectDocument)
	}
	if err != nil {
		return Manifest{}, err
	}
	if written := body.Metadata[digestKey]; written != "" && digest.FromBytes(config).Encoded() != written {
		return Manifest{}, errors.New("the cache config is damaged: it is not what was written")
	}
	m, err := configManifest(config, metadataRecord(body.Metadata))
	m.Version = body.Version
	return m, err
}

// Open implements [Scopes].
func (o *objects) Open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	key := o.blobKey(d)
	body, err := o.service.Get(ctx, key, offset)
	if err != nil {
		return nil, o.fault("read", key, err)
	}
	return body, nil
}

// Stat implements [Scopes], with a HEAD request for each blob.
func (o *objects) Stat(ctx context.Context, digests []digest.Digest) (map[digest.Digest]int64, error) {
	var mu sync.Mutex
	sizes := map[digest.Digest]int64{}
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(storage.RequestsAtOnce)
	for _, d := range digests {
		eg.Go(func() error {
			defer crash.Catch()
			key := o.blobKey(d)
			size, err := o.size(ctx, key)
			if errors.Is(err, ErrAbsent) {
				return nil
			}
			if err != nil {
				return o.fault("stat", key, err)
			}
			mu.Lock()
			defer mu.Unlock()
			sizes[d] = size
			return nil
		})
	}
	return sizes, eg.Wait()
}

// size is an object's size. Scopes that are read concurrently name mostly the same blobs, so
// one request serves all callers that wait for its answer. The request continues for a while when
// one of them is cancelled; later callers make a new one.
func (o *objects) size(ctx context.Context, key string) (int64, error) {
	answer := o.heads.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), headTimeout)
		defer cancel()
		return o.service.Head(ctx, key)
	})
	select {
	case a := <-answer:
		size, _ := a.Val.(int64)
		return size, a.Err
	case <-ctx.Done():
		o.heads.Forget(key)
		return 0, context.Cause(ctx)
	}
}

// Put implements [Store]. A cache config is kept in memory for PutManifest and does not become
// an object.
func (o *objects) Put(ctx context.Context, desc ocispecs.Descriptor, r io.Reader) error {
	key := o.blobKey(desc.Digest)
	if err := o.putBlob(ctx, key, desc, storage.Verify(r, desc)); err != nil {
		return o.fault("write", key, err)
	}
	return nil
}

func (o *objects) putBlob(ctx context.Context, key string, desc ocispecs.Descriptor, body io.Reader) error {
	if desc.Size > wholeBlob {
		return o.service.Upload(ctx, key, body, desc.Size)
	}
	var content bytes.Buffer
	content.Grow(int(desc.Size) + bytes.MinRead)
	if _, err := content.ReadFrom(body); err != nil || o.configs.hold(desc.Digest, content.Bytes()) {
		return err
	}
	return o.service.Put(ctx, key, content.Bytes(), nil, AnyVersion)
}

// PutManifest implements [Scopes].
func (o *objects) PutManifest(ctx context.Context, n scope.Name, m Manifest) error {
	return o.Swap(ctx, n, AnyVersion, m)
}

// Swap implements [Scopes].
func (o *objects) Swap(ctx context.Context, n scope.Name, version string, m Manifest) error {
	key := o.manifests + string(n)
	config, err := o.annotated(ctx, m)
	if err == nil {
		metadata := map[string]string{digestKey: digest.FromBytes(config).Encoded()}
		maps.Copy(metadata, m.Record.metadata())
		err = o.service.Put(ctx, key, config, metadata, version)
	}
	if err != nil {
		return o.fault("write", key, err)
	}
	return nil
}

// annotated is a manifest as one document, the annotated cache config.
func (o *objects) annotated(ctx context.Context, m Manifest) ([]byte, error) {
	if m.Inline != nil {
		return m.Inline, nil
	}
	config, err := o.config(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	return annotateConfig(config, m.Layers)
}

// config is a cache config that was put. It is in memory, or in the store when it is larger
// than wholeBlob.
func (o *objects) config(ctx context.Context, desc ocispecs.Descriptor) ([]byte, error) {
	if held := o.configs.config(desc.Digest); held != nil {
		return held, nil
	}
	blob, err := o.Open(ctx, desc.Digest, 0)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(storage.Verify(io.LimitReader(blob, maxObjectDocument), desc))
}
