package backends

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/scope"
)

// Registry is a cache in an OCI registry: the scope N is the tag <prefix>N of one
// repository. BuildKit speaks to it directly, since layers that the image and the
// cache share then mount across repositories instead of moving.
type Registry struct {
	repo     name.Repository
	prefix   string // "cache-", or the given ref's own tag and a hyphen
	insecure bool   // plain HTTP, or a certificate that nobody vouches for
	strict   bool
	options  map[string]string // mode, compression, media types
	keychain authn.Keychain
}

// defaultPrefix keeps the tags of caches apart from those of images in one repository.
const defaultPrefix = "cache-"

// maxPrefix is what a registry tag of 128 characters leaves beside a scope name of 110.
const maxPrefix = 17

func (r *Registry) String() string { return "registry " + place(r.repo) }

// place is a repository as people know it: go-containerregistry calls Docker Hub by
// the name of its old index.
func place(repo name.Repository) string {
	if repo.RegistryStr() == name.DefaultRegistry {
		return "docker.io/" + repo.RepositoryStr()
	}
	return repo.Name()
}

// Strict implements [Backend].
func (r *Registry) Strict() bool { return r.strict }

// Scopes implements [Keeper].
func (r *Registry) Scopes() Scopes { return r }

// Imports implements [Backend].
func (r *Registry) Imports(p scope.Plan) []client.CacheOptionsEntry {
	return importEach(p, "registry", r.attrs)
}

// Exports implements [Backend].
func (r *Registry) Exports(p scope.Plan) []client.CacheOptionsEntry {
	if p.Write == "" {
		return nil
	}
	attrs := r.attrs(p.Write)
	maps.Copy(attrs, r.options)
	return []client.CacheOptionsEntry{{Type: "registry", Attrs: attrs}}
}

func (r *Registry) attrs(n scope.Name) map[string]string {
	attrs := map[string]string{"ref": r.tag(n).Name()}
	if r.insecure {
		attrs["registry.insecure"] = "true"
	}
	return attrs
}

func (r *Registry) tag(n scope.Name) name.Tag { return r.repo.Tag(r.prefix + string(n)) }

func (r *Registry) remote(ctx context.Context) []remote.Option {
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(r.keychain)}
	if r.insecure {
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
	desc, err := remote.Get(r.tag(n), r.remote(ctx)...)
	if isAbsent(err) {
		return Manifest{}, fmt.Errorf("read %s: %w", r.tag(n), ErrAbsent)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("read %s: %w", r.tag(n), err)
	}
	return ParseManifest(desc.Manifest, string(desc.MediaType))
}

var absentCodes = []transport.ErrorCode{transport.ManifestUnknownErrorCode, transport.NameUnknownErrorCode, "NOT_FOUND"}

// isAbsent: a registry answers 404 for a tag and for a repository that are not
// there, with either of two codes (distribution-spec v1.1, "Error Codes"), or one of
// its own (Harbor v2, src/lib/errors). A 404 with none of them comes from something
// that is no registry, and proves nothing.
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
	if err := remote.Put(r.tag(n), document{m}, r.remote(ctx)...); err != nil {
		return fmt.Errorf("write %s: %w", r.tag(n), err)
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
	puller, err := remote.NewPuller(r.remote(ctx)...)
	if err != nil {
		return nil, fmt.Errorf("stat blobs of %s: %w", r.repo, err)
	}
	var mu sync.Mutex
	sizes := map[digest.Digest]int64{}
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(statParallel)
	for _, d := range digests {
		eg.Go(func() error {
			size, err := r.blobSize(ctx, puller, d)
			if isBlobAbsent(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("stat %s@%s: %w", r.repo, d, err)
			}
			mu.Lock()
			defer mu.Unlock()
			sizes[d] = size
			return nil
		})
	}
	return sizes, eg.Wait()
}

// Open implements [Scopes].
func (r *Registry) Open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	layer, err := remote.Layer(r.repo.Digest(d.String()), r.remote(ctx)...)
	if err != nil {
		return nil, fmt.Errorf("open %s@%s: %w", r.repo, d, err)
	}
	blob, err := layer.Compressed()
	if isBlobAbsent(err) {
		err = ErrAbsent
	}
	if err != nil {
		return nil, fmt.Errorf("open %s@%s: %w", r.repo, d, err)
	}
	// An offset is asked for only after a transfer broke off.
	if _, err := io.CopyN(io.Discard, blob, offset); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s@%s at %d: %w", r.repo, d, offset, err), blob.Close())
	}
	return blob, nil
}

func (r *Registry) blobSize(ctx context.Context, puller *remote.Puller, d digest.Digest) (int64, error) {
	layer, err := puller.Layer(ctx, r.repo.Digest(d.String()))
	if err != nil {
		return 0, err
	}
	return layer.Size()
}

func isBlobAbsent(err error) bool {
	var te *transport.Error
	return errors.As(err, &te) && te.StatusCode == http.StatusNotFound
}

// parseRepo splits `host/repo[:tag]` into the repository and the prefix of the
// scopes' tags. It follows the reference grammar of distribution, as BuildKit does.
func parseRepo(p *problems, ref string, insecure bool) (name.Repository, string) {
	// Before an @ may stand a password, so neither of these is shown.
	if strings.Contains(ref, "://") {
		p.add("leave out the scheme: ref=ghcr.io/owner/app", "ref is a URL")
		return name.Repository{}, ""
	}
	if strings.Contains(ref, "@") {
		p.add("leave the digest out: a cache is written under a tag for each branch", "ref has a digest")
		return name.Repository{}, ""
	}
	var opts []name.Option
	if insecure {
		opts = append(opts, name.Insecure)
	}
	tag, err := name.NewTag(ref, opts...)
	if _, grammar := reference.ParseNormalizedNamed(ref); err != nil || grammar != nil {
		hint := "write it as host/repository, like ghcr.io/owner/app"
		if lower := strings.ToLower(ref); lower != ref {
			hint = fmt.Sprintf("repositories are lower-case: ref=%s", lower)
		}
		p.add(hint, "ref=%s is not a repository", ref)
		return name.Repository{}, ""
	}
	prefix := defaultPrefix
	if own := ownTag(ref); own != "" {
		prefix = own + "-"
	}
	if len(prefix) > maxPrefix {
		p.add(fmt.Sprintf("give one of at most %d characters: the branch's name follows it", maxPrefix-1), "tag %q is too long", ownTag(ref))
	}
	return tag.Repository, prefix
}

// ownTag is the tag that stands in ref, "" for none.
func ownTag(ref string) string {
	last := ref[strings.LastIndex(ref, "/")+1:]
	_, tag, _ := strings.Cut(last, ":")
	return tag
}
