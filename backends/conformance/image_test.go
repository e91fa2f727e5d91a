package conformance

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// layers are those of an image that was pushed.
func layers(t testing.TB, ref string) []v1.Descriptor {
	t.Helper()
	tag, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(tag)
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return m.Layers
}

// settings of a cache, none of which may show in the image.
var settings = [][]string{
	{"--cache", "none"},
	{},
	{"--compression", "gzip"},
	{"--compression", "estargz"},
	{"--compression", "uncompressed"},
	{"--compression", "zstd", "--force-compression"},
	{"--cache-mode", "min"},
	{"--oci-mediatypes=false"},
}

// sameImage builds with every setting, cold and then warm. Times are fixed, so that
// equal images have equal digests; without that, cold images still have the same
// media types, and warm ones the digest of the cold one.
func (s suite) sameImage(t *testing.T) {
	fixed := []string{"--build-args", "SOURCE_DATE_EPOCH=1", "--outputs", "type=image,push=true,rewrite-timestamp=true"}
	if s.h.inline {
		// The cache is in the config, so that only its own settings compare.
		s.sameInline(t)
		return
	}
	app := testkit.App(t)
	var digest string
	for _, set := range settings {
		if s.h.gzip && slices.ContainsFunc(set, isCompression) {
			continue
		}
		t.Run(strings.Join(append(set, "default")[:max(1, len(set))], " "), func(t *testing.T) {
			c := s.h.open(t)
			for _, what := range []string{"cold", "warm"} {
				r := s.run(t, c, app, "main", slices.Concat(fixed, set)...).Build(t)
				if digest == "" {
					digest = r.Digest
				}
				if r.Digest != digest {
					t.Errorf("%s: image %s, without a cache %s", what, r.Digest, digest)
				}
			}
		})
		t.Run("layers/"+strings.Join(set, " "), func(t *testing.T) { s.sameLayers(t, app, set) })
	}
	t.Run("filled by a build that pushes nothing", func(t *testing.T) {
		c := s.h.open(t)
		r := s.run(t, c, app, "main")
		r.Args = slices.DeleteFunc(r.Args, func(a string) bool { return a == "--push" || a == "--tags" || a == c.image+":v1" })
		if first := r.Build(t); first.Digest != "" {
			t.Errorf("no image was asked for, and one is reported: %s", first.Digest)
		}
		allCached(t, s.run(t, c, app, "main").Build(t))
		gzipped(t, c)
	})
}

func isCompression(flag string) bool {
	return strings.Contains(flag, "compression") || strings.Contains(flag, "mediatypes")
}

func (s suite) sameLayers(t *testing.T, app string, set []string) {
	c := s.h.open(t)
	cold := s.run(t, c, app, "main", set...).Build(t)
	before := gzipped(t, c)
	if slices.Contains(set, "none") {
		return
	}
	warm := s.run(t, c, app, "main", set...).Build(t)
	if after := gzipped(t, c); !slices.EqualFunc(before, after, func(a, b v1.Descriptor) bool { return a.Digest == b.Digest }) {
		t.Errorf("warm layers %v, cold ones %v", after, before)
	}
	// BuildKit forgets when layers were made that it has compressed again.
	if warm.Digest != cold.Digest && !slices.Contains(set, "--force-compression") {
		t.Errorf("warm image %s, cold one %s", warm.Digest, cold.Digest)
	}
}

// gzipped are the layers of the pushed image, which must have its own compression.
func gzipped(t *testing.T, c store) []v1.Descriptor {
	t.Helper()
	all := layers(t, c.image+":v1")
	for _, l := range all {
		if l.MediaType != "application/vnd.oci.image.layer.v1.tar+gzip" {
			t.Errorf("the image has a layer of %s", l.MediaType)
		}
	}
	return all
}

func (s suite) sameInline(t *testing.T) {
	c, app, cold := s.warm(t)
	warm := s.run(t, c, app, "main").Build(t)
	if warm.Digest != cold.Digest {
		t.Errorf("warm image %s, cold one %s", warm.Digest, cold.Digest)
	}
	gzipped(t, c)
}
