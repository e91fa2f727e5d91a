package join

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/hosted"
)

// Bond identifies the parts of one image. It must be equal in the jobs that build the parts and in the job that merges them.
type Bond struct {
	Ref    string // "main", "v1.2" or "pull request 7"
	Commit string // "" where it is not known
	Run    string // that the jobs belong to, which a job that is repeated has again; "" where it is not known
	Key    string // the input cache-key, which tells the images of one repository apart; "" for one image
}

// prefix begins the tags of the parts: "part-1f2e3d4c5b6a7988-".
func (b Bond) prefix() string {
	sum := sha256.Sum256([]byte(b.Ref + "\n" + b.Commit + "\n" + b.Run + "\n" + b.Key))
	return "part-" + hex.EncodeToString(sum[:8]) + "-"
}

// tag leads to a part: "part-1f2e3d4c5b6a7988-linux-arm64". A part that is built again replaces the former one.
func (b Bond) tag(platforms []string) string {
	platforms = slices.Sorted(slices.Values(platforms))
	text := b.prefix() + strings.NewReplacer("/", "-", ",", "_").Replace(strings.Join(platforms, ","))
	return text[:min(len(text), 128)] // of the distribution specification
}

// Leave tags a part, so that Find finds it, in the repository of every name. The part must be there already, by its digest.
func (j Join) Leave(ctx context.Context, b Bond, part digest.Digest) error {
	var platforms []string
	for i, r := range j.repositories() {
		if i == 0 {
			manifests, err := j.manifests(ctx, r.Digest(part.String()))
			if err != nil {
				return fmt.Errorf("look at the part %s in %s: %w", part, r, err)
			}
			platforms = platformsOf(manifests)
		}
		got, err := remote.Get(r.Digest(part.String()), j.remote(ctx)...)
		if err == nil {
			err = remote.Tag(r.Tag(b.tag(platforms)), got, j.remote(ctx)...)
		}
		if err != nil {
			return fmt.Errorf("push the part %s to %s: %w", part, r, err)
		}
	}
	return nil
}

// Find looks for the parts of a bond, and returns their digests in the order of their tags.
func (j Join) Find(ctx context.Context, b Bond) (parts []digest.Digest, err error) {
	repositories := j.repositories()
	if len(repositories) == 0 {
		return nil, errors.New("no name says where the parts are")
	}
	r := repositories[0]
	tags, err := j.tagged(ctx, r, b)
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		got, err := remote.Head(r.Tag(tag), j.remote(ctx)...)
		if err != nil {
			return nil, fmt.Errorf("read the part %s: %w", r.Tag(tag), err)
		}
		parts = append(parts, digest.Digest(got.Digest.String()))
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("%s has no parts of %s at commit %s: set part: true, and the same cache-key as here, in the jobs that build them, or set digests", r, b.Ref, cmp.Or(b.Commit, "(unknown)"))
	}
	return parts, nil
}

// tagged are the tags of a bond in a repository, sorted. Some registries answer 404 for a repository without tags: that is no error.
func (j Join) tagged(ctx context.Context, r name.Repository, b Bond) ([]string, error) {
	all, err := remote.List(r, j.remote(ctx)...)
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the tags of %s: %w", r, err)
	}
	all = slices.DeleteFunc(all, func(tag string) bool { return !strings.HasPrefix(tag, b.prefix()) })
	slices.Sort(all)
	return all, nil
}

// Clear removes the tags of a bond that lead to these parts. The images stay, since the index names them. kept are the tags that the registry does not
// remove, as full references: "ghcr.io/o/app:part-…". On an error some tags may be removed.
func (j Join) Clear(ctx context.Context, b Bond, parts []digest.Digest) (kept []string, err error) {
	for _, r := range j.repositories() {
		tags, listed := j.tagged(ctx, r, b)
		err = errors.Join(err, listed)
		for _, tag := range tags {
			if got, failed := remote.Head(r.Tag(tag), j.remote(ctx)...); failed != nil || !slices.Contains(parts, digest.Digest(got.Digest.String())) {
				continue // a job has built it again
			}
			if hosted.Has(r.RegistryStr()) {
				kept = append(kept, r.Tag(tag).String())
				continue
			}
			var answer *transport.Error
			switch failed := remote.Delete(r.Tag(tag), j.remote(ctx)...); {
			case failed == nil:
			case errors.As(failed, &answer) && answer.StatusCode == http.StatusNotFound:
			case answer != nil && slices.Contains(backends.Refuses, answer.StatusCode):
				kept = append(kept, r.Tag(tag).String())
			default:
				err = errors.Join(err, fmt.Errorf("remove %s: %w", r.Tag(tag), failed))
			}
		}
	}
	return kept, err
}

// repositories are those of the names, each once.
func (j Join) repositories() []name.Repository {
	var all []name.Repository
	for _, n := range j.Names {
		tag, err := j.tag(n)
		if err == nil && !slices.ContainsFunc(all, func(r name.Repository) bool { return r.String() == tag.Repository.String() }) {
			all = append(all, tag.Repository)
		}
	}
	return all
}
