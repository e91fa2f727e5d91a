package conformance

import (
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// Settings of a cache, none of which may change the image.
var settings = [][]string{
	{},
	{"--compression", "gzip"},
	{"--compression", "estargz"},
	{"--compression", "uncompressed"},
	{"--compression", "zstd", "--force-compression"},
	{"--cache-mode", "min"},
	{"--oci-mediatypes=false"},
}

// fixed are flags that make the digests of equal images equal.
var fixed = []string{"--build-args", "SOURCE_DATE_EPOCH=1", "--outputs", "type=image,push=true,rewrite-timestamp=true"}

// sameImage builds with every setting, cold and then warm. With fixed times all images have the
// digest of the one that was built without a cache. Without fixed times cold images have the same
// media types, and warm images have the digest of the cold one.
func (s suite) sameImage(t *testing.T) {
	for _, set := range settings {
		if s.h.gzip && slices.ContainsFunc(set, isCompression) || s.h.object && s.h.remote && slices.ContainsFunc(set, isMediaType) {
			continue
		}
		flags := strings.Join(set, " ")
		t.Run("fixed times/"+flags, func(t *testing.T) {
			t.Parallel()
			c, app, want := s.h.open(t), twoStages(t), uncached(t)
			for _, what := range []string{"cold", "warm"} {
				if r := s.run(t, c, app, "main", slices.Concat(fixed, set)...).Build(t); r.Digest != want {
					t.Errorf("%s: image %s, without a cache %s", what, r.Digest, want)
				}
			}
		})
		if len(set) == 0 || set[0] == "--cache-mode" {
			continue // successive and modes test these
		}
		t.Run("layers/"+flags, func(t *testing.T) {
			t.Parallel()
			s.sameLayers(t, set...)
		})
	}
	if !s.h.gzip {
		t.Run("layers/eStargz in both", func(t *testing.T) {
			t.Parallel()
			s.sameLayers(t, estargz...)
		})
	}
}

// estargz asks for the cache and the image as eStargz. With the cache alone the layers of a warm image
// are others than those of a cold one: BuildKit knows eStargz by content that it does not have yet.
var estargz = []string{"--compression", "estargz", "--force-compression", "--outputs", "type=image,push=true,compression=estargz,force-compression=true"}

func isCompression(flag string) bool { return strings.Contains(flag, "compression") }

func isMediaType(flag string) bool { return strings.Contains(flag, "mediatypes") }

// withoutCache is the app's image at fixed times, built twice without a cache. It is built once,
// for all backends.
var withoutCache struct {
	sync.Once
	digests []string
}

func uncached(t *testing.T) string {
	t.Helper()
	withoutCache.Do(func() {
		image, app := testkit.StartRegistry(t).Repository(), twoStages(t)
		build := testkit.Invocation{Dir: app, Branch: "main", Args: []string{"--cache", "none", "--tags", image + ":v1", "--push"}}
		build.Build(t)
		gzipped(t, image)
		build.Args = append(build.Args, fixed...)
		for range 2 {
			withoutCache.digests = append(withoutCache.digests, build.Build(t).Digest)
		}
	})
	if d := withoutCache.digests; len(d) != 2 || d[0] != d[1] || d[0] == "" {
		t.Fatalf("images that were built without a cache: %q", d)
	}
	return withoutCache.digests[0]
}

// sameLayers returns the store that it has filled.
func (s suite) sameLayers(t *testing.T, set ...string) store {
	t.Helper()
	app := twoStages(t)
	c, cold := s.warm(t, app, set...)
	before := gzipped(t, c.image)
	warm := s.run(t, c, app, "main", set...).Build(t)
	if after := gzipped(t, c.image); !slices.EqualFunc(before, after, func(a, b v1.Descriptor) bool { return a.Digest == b.Digest }) {
		t.Errorf("warm layers %v, cold ones %v", after, before)
	}
	// BuildKit loses the creation times of layers that it compresses again.
	if warm.Digest != cold.Digest && !slices.Contains(set, "--force-compression") {
		t.Errorf("warm image %s, cold one %s", warm.Digest, cold.Digest)
	}
	return c
}

func (s suite) modes(t *testing.T) {
	least := s.sameLayers(t, "--cache-mode", "min")
	most, _ := s.warm(t, twoStages(t), "--cache-mode", "max")
	count := []int{len(least.manifest(t, "b-main").Layers), len(most.manifest(t, "b-main").Layers)}
	if count[0] == 0 || count[0] >= count[1] {
		t.Errorf("layers by mode, min and max: %v", count)
	}
}

// gzipped are the layers of a pushed image, which must be compressed with gzip.
func gzipped(t *testing.T, image string) []v1.Descriptor {
	t.Helper()
	m := testkit.PushedManifest(t, image+":v1")
	for _, l := range m.Layers {
		if l.MediaType != "application/vnd.oci.image.layer.v1.tar+gzip" {
			t.Errorf("the image has a layer of %s", l.MediaType)
		}
	}
	return m.Layers
}

// noImage fills the cache with a build that pushes nothing; the next build pushes an image.
func (s suite) noImage(t *testing.T) {
	c, app := s.h.open(t), twoStages(t)
	r := s.run(t, c, app, "main")
	r.Args = slices.DeleteFunc(r.Args, func(a string) bool { return a == "--push" || a == "--tags" || a == c.image+":v1" })
	if first := r.Build(t); first.Digest != "" {
		t.Errorf("the report has an image although none was requested: %s", first.Digest)
	}
	allCached(t, s.run(t, c, app, "main").Build(t))
	gzipped(t, c.image)
}
