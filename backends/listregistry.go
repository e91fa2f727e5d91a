package backends

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/hosted"
	"github.com/warmlayer/warmlayer/scope"
)

// List implements [Listing]: the tags with the cache's prefix. A repository that is not there has none.
func (r *Registry) List(ctx context.Context, each func(Entry) error) error {
	tags, err := r.tags(ctx)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		rest, ours := strings.CutPrefix(tag, r.TagPrefix)
		if !ours {
			continue
		}
		e := Entry{Key: tag}
		if scope.Name(rest).Valid() {
			e.Name = scope.Name(rest)
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// tags are all tags of the repository.
func (r *Registry) tags(ctx context.Context) ([]string, error) {
	options, err := r.options(ctx, transport.PullScope)
	if err != nil {
		return nil, fmt.Errorf("list the tags of %s: %w", r.Repository, err)
	}
	tags, err := remote.List(r.Repository, options...)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the tags of %s: %w", r.Repository, err)
	}
	return tags, nil
}

// At implements [Listing].
func (r *Registry) At(ctx context.Context, e Entry) (Manifest, error) {
	return r.manifestOf(ctx, r.Repository.Tag(e.Key))
}

// Forget implements [Listing]. A tag is removed first, and then its manifest, unless another tag has it: a registry frees the layers of a
// manifest that is gone. Registries that do not remove tags alone, as the ones before distribution 3 (distribution-spec v1.1, "Deleting
// tags"), remove the manifest with all its tags, so it stays where a tag that is not to be removed has it.
func (r *Registry) Forget(ctx context.Context, entries []Entry, gone func(Entry)) error {
	if hosted.Has(r.Repository.RegistryStr()) {
		return r.forgetHosted(ctx, entries, gone)
	}
	options, err := r.options(ctx, deleteScope)
	if err != nil {
		return fmt.Errorf("remove tags of %s: %w", r.Repository, err)
	}
	holders, err := r.holders(ctx)
	if err != nil {
		return err
	}
	leaving := map[string]bool{}
	for _, e := range entries {
		leaving[e.Key] = true
	}
	var mu sync.Mutex
	var failed atomic.Bool
	var eg errgroup.Group // requests that have begun are not cancelled, so that it is known what is gone
	eg.SetLimit(statParallel)
	for _, e := range entries {
		eg.Go(func() error {
			defer crash.Catch()
			if failed.Load() {
				return nil
			}
			removed, err := r.forget(e.Key, holders.digest[e.Key], holders.only(holders.digest[e.Key], leaving), options)
			if removed {
				mu.Lock()
				defer mu.Unlock()
				gone(e)
			}
			if err != nil {
				failed.Store(true)
				return fmt.Errorf("remove %s: %w", r.Repository.Tag(e.Key), err)
			}
			return nil
		})
	}
	return eg.Wait()
}

// forgetHosted is Forget at a service whose own API removes tags.
func (r *Registry) forgetHosted(ctx context.Context, entries []Entry, gone func(Entry)) error {
	credentials, err := r.hostedLogin(ctx)
	if err != nil {
		return fmt.Errorf("remove tags of %s: %w", r.Repository, err)
	}
	byTag, tags := map[string]Entry{}, make([]string, len(entries))
	for i, e := range entries {
		byTag[e.Key], tags[i] = e, e.Key
	}
	remover, _ := hosted.Of(r.Repository.RegistryStr(), r.Repository.RepositoryStr(), credentials)
	return remover.Remove(ctx, tags, func(tag string) { gone(byTag[tag]) })
}

// hostedLogin are the credentials for the API of the service that has the registry.
func (r *Registry) hostedLogin(ctx context.Context) (hosted.Credentials, error) {
	logins, ok := r.keychain.(hosted.Logins)
	if !ok {
		return hosted.Credentials{}, errors.New("no login is known")
	}
	return logins.API(ctx, r.Repository)
}

// forget removes a tag, and the manifest that it has unless other tags than those that are leaving have it. It reports whether the tag is gone, which it
// may be with an error, too.
func (r *Registry) forget(tag, digest string, alone bool, options []remote.Option) (removed bool, err error) {
	if digest == "" {
		return true, nil // another program has removed it
	}
	withTag := remote.Delete(r.Repository.Tag(tag), options...)
	removed = withTag == nil || isNotFound(withTag)
	switch {
	case refused(withTag) && !alone:
		return false, errors.New("the registry removes no tag alone, and another tag has the same manifest")
	case !removed && !refused(withTag):
		return false, withTag
	case !alone:
		return true, nil
	}
	err = remote.Delete(r.Repository.Digest(digest), options...)
	if removed && refused(err) || isNotFound(err) {
		return true, nil // the registry keeps manifests until it collects garbage
	}
	return removed || err == nil, deletesOff(err)
}

// deleteScope is the scope of requests that remove: registries with tokens want its own action (distribution, docs/spec/auth/scope.md).
const deleteScope = "pull,push,delete"

// holders are the tags of a repository by manifest.
type holders struct {
	digest map[string]string          // of a tag
	tags   map[string]map[string]bool // of a digest
}

// holders asks for the digest of every tag, those of images too: an image and a cache may be one manifest.
func (r *Registry) holders(ctx context.Context) (*holders, error) {
	tags, err := r.tags(ctx)
	if err != nil {
		return nil, err
	}
	options, err := r.options(ctx, transport.PullScope)
	if err != nil {
		return nil, err
	}
	all := &holders{map[string]string{}, map[string]map[string]bool{}}
	var mu sync.Mutex
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(statParallel)
	for _, tag := range tags {
		eg.Go(func() error {
			defer crash.Catch()
			desc, err := remote.Head(r.Repository.Tag(tag), append(options, remote.WithContext(ctx))...)
			if isNotFound(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("look at %s: %w", r.Repository.Tag(tag), err)
			}
			mu.Lock()
			defer mu.Unlock()
			d := desc.Digest.String()
			all.digest[tag] = d
			if all.tags[d] == nil {
				all.tags[d] = map[string]bool{}
			}
			all.tags[d][tag] = true
			return nil
		})
	}
	return all, eg.Wait()
}

// only reports whether no other tags than those that are leaving have a manifest.
func (h *holders) only(digest string, leaving map[string]bool) bool {
	for tag := range h.tags[digest] {
		if !leaving[tag] {
			return false
		}
	}
	return true
}

// Refuses are the answers of a registry that does not do what it was asked: it removes no tags, or nothing at all.
var Refuses = []int{http.StatusMethodNotAllowed, http.StatusBadRequest, http.StatusNotImplemented}

func refused(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && slices.Contains(Refuses, answer.StatusCode)
}

// deletesOff says what to do where a registry removes nothing.
func deletesOff(err error) error {
	if !refused(err) {
		return err
	}
	return fmt.Errorf("the registry removes nothing: let it (distribution: storage.delete.enabled, or REGISTRY_STORAGE_DELETE_ENABLED=true), "+
		"or use the registry's own clean-up: %w", err)
}

// At implements [Listing]. The layers are those of the image.
func (r pushedImages) At(ctx context.Context, e Entry) (Manifest, error) {
	return r.Registry.At(ctx, e)
}

// Forget implements [Listing]. Only the tag is removed, since the image is no cache: its manifest stays, with its layers.
func (r pushedImages) Forget(ctx context.Context, entries []Entry, gone func(Entry)) error {
	if hosted.Has(r.Repository.RegistryStr()) {
		return fmt.Errorf("remove tags of %s: this service could remove the image together with its tag", r.Repository)
	}
	options, err := r.options(ctx, deleteScope)
	if err != nil {
		return fmt.Errorf("remove tags of %s: %w", r.Repository, err)
	}
	for _, e := range entries {
		tag := r.Repository.Tag(e.Key)
		err := remote.Delete(tag, append(options, remote.WithContext(ctx))...)
		if refused(err) {
			return fmt.Errorf("remove %s: the registry removes no tag alone, and the tag's manifest is an image's: %w", tag, err)
		}
		if err != nil && !isNotFound(err) {
			return fmt.Errorf("remove %s: %w", tag, err)
		}
		gone(e)
	}
	return nil
}
