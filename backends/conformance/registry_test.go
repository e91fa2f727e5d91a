package conformance

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

func TestRegistry(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: repositories(t, "registry")})
}

func TestRegistryRemote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: repositories(t, "registry"), remote: true})
}

func TestInline(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: repositories(t, "inline"), inline: true})
}

func TestInlineRemote(t *testing.T) {
	t.Parallel()
	conform(t, harness{open: repositories(t, "inline"), inline: true, remote: true})
}

// repositories are the repositories of a registry, one for each cache and its images.
func repositories(t *testing.T, kind string) func(*testing.T) store {
	t.Helper()
	registry := testkit.StartRegistry(t)
	return func(*testing.T) store {
		image := registry.Repository()
		return store{line: "type=" + kind + ",ref=" + image, image: image, names: func(t testing.TB) []string { return tags(t, image) }}
	}
}

func tags(t testing.TB, image string) []string {
	t.Helper()
	repository, err := name.NewRepository(image)
	if err != nil {
		t.Fatal(err)
	}
	all, err := remote.List(repository)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
