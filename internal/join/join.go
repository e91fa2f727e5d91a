// Package join makes one index of the images that several builders or jobs have pushed.
//
//	j := join.Join{Names: []string{"ghcr.io/o/app:v1"}, Parts: []digest.Digest{amd64, arm64}, Keychain: keychain}
//	index, err := j.Push(ctx) // ghcr.io/o/app:v1 is the index
package join

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/util/attestation"
	digest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Join is one index of images that were pushed by digest.
type Join struct {
	Names       []string          // full references that get the index: "ghcr.io/o/app:v1"
	Parts       []digest.Digest   // images, or indexes with attestations, in every name's repository
	Platforms   []string          // that the parts must have together, in BuildKit's spelling: "linux/arm64"; nil: any
	Annotations map[string]string // of the index
	Docker      bool              // Docker's media type instead of OCI's
	Insecure    bool              // the registries may use plain HTTP, or an untrusted certificate
	Keychain    authn.Keychain
}

// Push makes the index and pushes it with every name. It is equal to the index of one builder:
// images and attestations are unchanged, in the order of the parts. It pushes nothing when the parts are not complete.
// After another error some names may have the index.
func (j Join) Push(ctx context.Context) (ocispecs.Descriptor, error) {
	if len(j.Names) == 0 {
		return ocispecs.Descriptor{}, errors.New("join images: the image has no name")
	}
	tags := make([]name.Tag, len(j.Names))
	for i, n := range j.Names {
		tag, err := j.tag(n)
		if err != nil {
			return ocispecs.Descriptor{}, fmt.Errorf("join images: %w", err)
		}
		tags[i] = tag
	}
	index := pushedIndex{Index: ocispecs.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageIndex,
		Manifests: []ocispecs.Descriptor{}, Annotations: j.Annotations,
	}}
	if j.Docker {
		index.Index.MediaType = string(types.DockerManifestList)
	}
	for _, part := range j.Parts {
		manifests, err := j.manifests(ctx, tags[0].Digest(part.String()))
		if err != nil {
			return ocispecs.Descriptor{}, fmt.Errorf("join images: %w", err)
		}
		index.Manifests = append(index.Manifests, manifests...)
	}
	if err := j.complete(index.Manifests); err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("join images: %w", err)
	}
	raw, err := index.RawManifest()
	if err != nil {
		return ocispecs.Descriptor{}, fmt.Errorf("join images: %w", err)
	}
	var eg errgroup.Group
	for _, tag := range tags {
		eg.Go(func() error {
			defer crash.Catch()
			if err := remote.Put(tag, index, j.remote(ctx)...); err != nil {
				return fmt.Errorf("push the index of all platforms to %s: %w", tag, err)
			}
			return nil
		})
	}
	desc := ocispecs.Descriptor{MediaType: index.Index.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return desc, eg.Wait()
}

// complete reports a platform that is there twice, that is missing, or that is not wanted.
func (j Join) complete(manifests []ocispecs.Descriptor) error {
	from := map[string]digest.Digest{}
	all := platformsOf(manifests)
	var problems []error
	for _, m := range manifests {
		if isAttestation(m) {
			continue
		}
		if m.Platform == nil {
			problems = append(problems, fmt.Errorf("the image %s has no platform in the index", m.Digest))
			continue
		}
		name := platforms.Format(platforms.Normalize(*m.Platform))
		if other, twice := from[name]; twice {
			problems = append(problems, fmt.Errorf("two images have the platform %s: %s and %s; each job must build different platforms", name, other, m.Digest))
			continue
		}
		from[name] = m.Digest
		if len(j.Platforms) > 0 && !slices.Contains(j.Platforms, name) {
			problems = append(problems, fmt.Errorf("the image %s has the platform %s, which is none of %s", m.Digest, name, strings.Join(j.Platforms, ", ")))
		}
	}
	for _, wanted := range j.Platforms {
		if from[wanted] == "" {
			problems = append(problems, fmt.Errorf("no part has the platform %s; the parts have %s", wanted, cmp.Or(strings.Join(all, ", "), "none")))
		}
	}
	return errors.Join(problems...)
}

func isAttestation(m ocispecs.Descriptor) bool {
	return m.Annotations[attestation.DockerAnnotationReferenceType] != ""
}

// platformsOf are the platforms of the images in an index.
func platformsOf(manifests []ocispecs.Descriptor) (all []string) {
	for _, m := range manifests {
		if m.Platform != nil && !isAttestation(m) {
			all = append(all, platforms.Format(platforms.Normalize(*m.Platform)))
		}
	}
	return all
}

// manifests are the descriptors of a part for the index.
func (j Join) manifests(ctx context.Context, part name.Digest) ([]ocispecs.Descriptor, error) {
	got, err := remote.Get(part, j.remote(ctx)...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", part, err)
	}
	if got.MediaType.IsIndex() {
		var index ocispecs.Index
		if err := json.Unmarshal(got.Manifest, &index); err != nil {
			return nil, fmt.Errorf("parse %s: %w", part, err)
		}
		return index.Manifests, nil
	}
	image, err := got.Image()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", part, err)
	}
	raw, err := image.RawConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read config of %s: %w", part, err)
	}
	var config ocispecs.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("parse config of %s: %w", part, err)
	}
	platform := platforms.Normalize(config.Platform)
	return []ocispecs.Descriptor{{
		MediaType: string(got.MediaType), Digest: digest.Digest(got.Digest.String()), Size: got.Size, Platform: &platform,
	}}, nil
}

func (j Join) tag(image string) (name.Tag, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return name.Tag{}, err
	}
	return syntax.Tag(named, j.Insecure)
}

func (j Join) remote(ctx context.Context) []remote.Option {
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(j.Keychain), remote.WithUserAgent(backends.UserAgent)}
	if j.Insecure {
		options = append(options, remote.WithTransport(backends.InsecureTransport))
	}
	return options
}

// pushedIndex is an index in the form that go-containerregistry pushes.
type pushedIndex struct{ ocispecs.Index }

// RawManifest implements [remote.Taggable].
func (j pushedIndex) RawManifest() ([]byte, error) { return json.MarshalIndent(j.Index, "", "  ") }

// MediaType is the media type of the pushed index.
func (j pushedIndex) MediaType() (types.MediaType, error) {
	return types.MediaType(j.Index.MediaType), nil
}
