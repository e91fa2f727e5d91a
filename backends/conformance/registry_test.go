package conformance

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestRegistry(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openRegistry})
}

func TestRegistryRemote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openRegistry, remote: true})
}

func TestInline(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openInline, inline: true})
}

func TestInlineRemote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: openInline, inline: true, remote: true})
}

func openRegistry(t *testing.T) store { return openRepository(t, "registry") }

func openInline(t *testing.T) store { return openRepository(t, "inline") }

// openRepository is a new repository, for the cache and for the images.
func openRepository(t *testing.T, kind string) store {
	t.Helper()
	image := testkit.StartRegistry(t).Host + "/app"
	return store{
		line: "type=" + kind + ",ref=" + image, image: image,
		names: func(t testing.TB) []string {
			repository, err := name.NewRepository(image)
			if err != nil {
				t.Fatal(err)
			}
			tags, err := remote.List(repository)
			if err != nil {
				t.Fatal(err)
			}
			return tags
		},
	}
}
