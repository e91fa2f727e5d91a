package backends

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/scope"
)

// Registry is a cache in an OCI registry: the scope N is the tag <prefix>N of one
// repository. BuildKit speaks to it directly, since layers that the image and the
// cache share then mount across repositories instead of moving.
type Registry struct {
	*cachespec.Registry
	keychain authn.Keychain
	*connection
}

func newRegistry(c *cachespec.Registry, keychain authn.Keychain) *Registry {
	base := remote.DefaultTransport
	if c.Insecure {
		base = InsecureTransport
	}
	return &Registry{c, keychain, newConnection(c.Repository, keychain, base)}
}

// Complete implements [Complete]: a registry keeps what a manifest names for as long as the
// manifest is there.
func (r *Registry) Complete() {}

// Scopes implements [Backend].
func (r *Registry) Scopes() Scopes { return r }

// Imports implements [Backend].
func (r *Registry) Imports(p scope.Plan) []client.CacheOptionsEntry {
	return importEach(p, r.Type(), r.attrs)
}

// Exports implements [Backend].
func (r *Registry) Exports(p scope.Plan) []client.CacheOptionsEntry {
	if p.Write == "" {
		return nil
	}
	attrs := r.attrs(p.Write)
	maps.Copy(attrs, r.Options())
	return []client.CacheOptionsEntry{{Type: r.Type(), Attrs: attrs}}
}

func (r *Registry) attrs(n scope.Name) map[string]string {
	attrs := map[string]string{"ref": r.tag(n).Name()}
	if r.Insecure {
		attrs["registry.insecure"] = "true"
	}
	return attrs
}

func (r *Registry) tag(n scope.Name) name.Tag { return r.Repository.Tag(r.TagPrefix + string(n)) }

// remote are the options of calls of package remote that use other repositories, too.
func (r *Registry) remote(ctx context.Context) []remote.Option {
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(r.keychain), remote.WithUserAgent(storage.UserAgent)}
	if r.Insecure {
		options = append(options, remote.WithTransport(InsecureTransport))
	}
	return options
}

// InsecureTransport believes any certificate, which is what registry.insecure asks for.
var InsecureTransport = func() http.RoundTripper {
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // asked for by the user
	return t
}()

// Manifest implements [Scopes].
func (r *Registry) Manifest(ctx context.Context, n scope.Name) (Manifest, error) {
	return r.manifestOf(ctx, r.tag(n))
}

func (r *Registry) manifestOf(ctx context.Context, tag name.Tag) (Manifest, error) {
	desc, err := r.get(ctx, tag)
	if isAbsent(err) {
		return Manifest{}, fmt.Errorf("read %s: %w", tag, ErrAbsent)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("read %s: %w", tag, err)
	}
	m, err := ParseManifest(desc.Manifest, string(desc.MediaType))
	m.Version = desc.Digest.String()
	return m, err
}

// get reads a manifest.
func (r *Registry) get(ctx context.Context, ref name.Reference) (*remote.Descriptor, error) {
	options, err := r.options(ctx, transport.PullScope)
	if err != nil {
		return nil, err
	}
	return remote.Get(ref, options...)
}

// noDigest stands for a manifest that is not known yet. containerd's client, with which BuildKit
// pushes, gives a manifest no tag when the reference has another digest than the manifest
// (containerd v2.4, core/remotes/docker/pusher.go, getManifestPath).
const noDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// Untagged implements [Untagged].
func (r *Registry) Untagged() string { return r.Repository.Name() + "@" + noDigest }

// ManifestAt implements [Untagged].
func (r *Registry) ManifestAt(ctx context.Context, d digest.Digest) (Manifest, error) {
	at := r.Repository.Digest(d.String())
	desc, err := r.get(ctx, at)
	if err != nil {
		return Manifest{}, fmt.Errorf("read %s: %w", at, err)
	}
	return ParseManifest(desc.Manifest, string(desc.MediaType))
}

var absentCodes = []transport.ErrorCode{transport.ManifestUnknownErrorCode, transport.NameUnknownErrorCode, "NOT_FOUND"}

// isAbsent: a registry answers 404 for a tag and for a repository that are not
// there, with either of two codes (distribution-spec v1.1, "Error Codes"), or one of
// its own (Harbor v2, src/lib/errors). A 404 with none of them comes from something
// other than a registry, and says nothing about the cache.
func isAbsent(err error) bool {
	var te *transport.Error
	if !errors.As(err, &te) || te.StatusCode != http.StatusNotFound {
		return false
	}
	return slices.ContainsFunc(te.Errors, func(d transport.Diagnostic) bool {
		return slices.Contains(absentCodes, d.Code)
	})
}

// PutManifest implements [Scopes]. It is how the record gets into a manifest that
// BuildKit has pushed.
func (r *Registry) PutManifest(ctx context.Context, n scope.Name, m Manifest) error {
	options, err := r.options(ctx, transport.PushScope)
	if err == nil {
		err = remote.Put(r.tag(n), document{m}, options...)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", r.tag(n), err)
	}
	return nil
}

// Replace implements [Keeping].
func (r *Registry) Replace(digest.Digest) string {
	return keptBy(r.Repository, "or set ref to another repository")
}

func keptBy(repository name.Repository, or string) string {
	return "a registry keeps the blobs that it has: delete " + repository.Name() + " there, with its blobs, " + or
}

// Swap implements [Scopes]. Registries have no conditional PUT, so it looks before and after:
// of two builds that write at once, the one that is overwritten finds that out, because it waits
// for as long as the other one may take between its look and its PUT.
func (r *Registry) Swap(ctx context.Context, n scope.Name, version string, m Manifest) error {
	if version == AnyVersion {
		return r.PutManifest(ctx, n, m)
	}
	took, err := r.swap(ctx, n, version, m)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(settle + 3*took):
	}
	return r.still(ctx, n, m.Descriptor().Digest.String())
}

// Create implements [Creator].
func (r *Registry) Create(ctx context.Context, n scope.Name, m Manifest) error {
	_, err := r.swap(ctx, n, "", m)
	return err
}

// swap looks at the tag before the PUT only. It returns the time from the end of that look to the answer to the PUT.
func (r *Registry) swap(ctx context.Context, n scope.Name, version string, m Manifest) (time.Duration, error) {
	if err := r.still(ctx, n, version); err != nil {
		return 0, err
	}
	looked := time.Now()
	err := r.PutManifest(ctx, n, m)
	return time.Since(looked), err
}

// settle: another build may take up to 3 × this build's PUT + settle between its look and its PUT.
const settle = 20 * time.Millisecond

// still is an [ErrReplaced] unless the scope's manifest has the version.
func (r *Registry) still(ctx context.Context, n scope.Name, version string) error {
	found := ""
	options, err := r.options(ctx, transport.PullScope)
	if err != nil {
		return fmt.Errorf("look at %s: %w", r.tag(n), err)
	}
	desc, err := remote.Head(r.tag(n), options...)
	switch {
	case err == nil:
		found = desc.Digest.String()
	case !isNotFound(err):
		return fmt.Errorf("look at %s: %w", r.tag(n), err)
	}
	if found != version {
		return fmt.Errorf("write %s: %w", r.tag(n), ErrReplaced)
	}
	return nil
}

// document is a manifest as go-containerregistry puts one.
type document struct{ Manifest }

func (d document) RawManifest() ([]byte, error) { return d.Raw, nil }
func (d document) MediaType() (types.MediaType, error) {
	return types.MediaType(d.Manifest.MediaType), nil
}

// statParallel bounds the HEAD requests under way at once: with 16 a cache of
// 100 layers takes seven round trips.
const statParallel = 16

// Stat implements [Scopes], with a HEAD request for each blob.
func (r *Registry) Stat(ctx context.Context, digests []digest.Digest) (map[digest.Digest]int64, error) {
	options, err := r.options(ctx, transport.PullScope)
	if err != nil {
		return nil, fmt.Errorf("stat blobs of %s: %w", r.Repository, err)
	}
	var mu sync.Mutex
	sizes := map[digest.Digest]int64{}
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(statParallel)
	for _, d := range digests {
		eg.Go(func() error {
			defer crash.Catch()
			size, err := r.blobSize(d, append(slices.Clip(options), remote.WithContext(ctx)))
			if isNotFound(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("stat %s@%s: %w", r.Repository, d, err)
			}
			mu.Lock()
			defer mu.Unlock()
			sizes[d] = size
			return nil
		})
	}
	return sizes, eg.Wait()
}

func (r *Registry) blobSize(d digest.Digest, options []remote.Option) (int64, error) {
	layer, err := remote.Layer(r.Repository.Digest(d.String()), options...)
	if err != nil {
		return 0, err
	}
	return layer.Size()
}

func isNotFound(err error) bool {
	var te *transport.Error
	return errors.As(err, &te) && te.StatusCode == http.StatusNotFound
}
