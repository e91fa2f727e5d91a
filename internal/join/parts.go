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

	"github.com/warmlayer/warmlayer/internal/hosted"
)

// Bond is what the parts of one image have in common: the jobs that build them and the job that merges them agree about it.
type Bond struct {
	Ref    string // the branch, the tag or the pull request
	Commit string
	Key    string // the input cache-key, which tells the images of one repository apart; "" for one image
}

// prefix begins the tags of the parts: "part-1f2e3d4c5b6a7988-".
func (b Bond) prefix() string {
	sum := sha256.Sum256([]byte(b.Ref + "\n" + b.Commit + "\n" + b.Key))
	return "part-" + hex.EncodeToString(sum[:8]) + "-"
}

// tag leads to a part: "part-1f2e3d4c5b6a7988-linux-arm64". A part that is built again replaces the former one.
func (b Bond) tag(platforms []string) string {
	platforms = slices.Sorted(slices.Values(platforms))
	text := b.prefix() + strings.NewReplacer("/", "-", ",", "_").Replace(strings.Join(platforms, ","))
	return text[:min(len(text), 128)] // of the distribution specification
}

// Leave gives a part that was pushed by digest its tag in every name's repository.
func (j Join) Leave(ctx context.Context, b Bond, part digest.Digest, platforms []string) error {
	for _, r := range j.repositories() {
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
	r := j.repositories()[0]
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
		return nil, fmt.Errorf("%s has no parts of %s at commit %s: set part: true in the jobs that build them, or name the digests", r, b.Ref, cmp.Or(b.Commit, "(unknown)"))
	}
	return parts, nil
}

// tagged are the tags of a bond in a repository, sorted. A repository without tags is not known to every registry.
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

// Clear removes the tags of a bond. The images stay, since the index names them. A registry that removes no tag alone keeps them:
// they are returned.
func (j Join) Clear(ctx context.Context, b Bond) (kept []string, err error) {
	for _, r := range j.repositories() {
		tags, listed := j.tagged(ctx, r, b)
		err = errors.Join(err, listed)
		for _, tag := range tags {
			if hosted.Has(r.RegistryStr()) {
				kept = append(kept, r.Tag(tag).String())
				continue
			}
			var answer *transport.Error
			switch failed := remote.Delete(r.Tag(tag), j.remote(ctx)...); {
			case failed == nil:
			case !errors.As(failed, &answer) || answer.StatusCode >= http.StatusInternalServerError && answer.StatusCode != http.StatusNotImplemented:
				err = errors.Join(err, fmt.Errorf("remove %s: %w", r.Tag(tag), failed))
			case answer.StatusCode != http.StatusNotFound:
				kept = append(kept, r.Tag(tag).String())
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
