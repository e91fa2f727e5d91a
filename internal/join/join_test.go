package join

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// part pushes an image by digest, as a job for a platform does: "linux/arm64".
func part(t *testing.T, repository, platform string) digest.Digest {
	t.Helper()
	os, arch, _ := strings.Cut(platform, "/")
	layer, err := random.Layer(64, "application/vnd.oci.image.layer.v1.tar+gzip")
	image := empty.Image
	if err == nil {
		image, err = mutate.ConfigFile(image, &v1.ConfigFile{OS: os, Architecture: arch})
	}
	if err == nil {
		image, err = mutate.AppendLayers(image, layer)
	}
	if err != nil {
		t.Fatal(err)
	}
	hash, err := image.Digest()
	if err == nil {
		var ref name.Reference
		if ref, err = name.ParseReference(repository + "@" + hash.String()); err == nil {
			err = remote.Write(ref, image)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return digest.Digest(hash.String())
}

func tags(t *testing.T, repository string) string {
	t.Helper()
	r, err := name.NewRepository(repository)
	var all []string
	if err == nil {
		all, err = remote.List(r)
	}
	var answer *transport.Error
	if err != nil && (!errors.As(err, &answer) || answer.StatusCode != http.StatusNotFound) {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// TestMerge: the parts of several jobs are found by their bond in every repository, become one index, and lose their tags. The
// parts of another commit stay.
func TestMerge(t *testing.T) {
	t.Parallel()
	registry := testkit.StartRegistry(t)
	one, two := registry.Repository(), registry.Repository()
	j := Join{Names: []string{one + ":v1", two + ":v1", one + ":latest"}, Keychain: authn.DefaultKeychain, Annotations: map[string]string{"a": "b"}}
	bond, other := Bond{Ref: "main", Commit: "c1"}, Bond{Ref: "main", Commit: "c2"}
	if _, err := j.Find(t.Context(), bond); err == nil {
		t.Error("parts in an empty repository")
	}
	platforms := []string{"linux/amd64", "linux/arm64"}
	built := map[string]digest.Digest{}
	for i, p := range append(platforms, "linux/amd64") { // the first job is repeated
		built[p] = part(t, one, p)
		source, err := name.ParseReference(one + "@" + built[p].String())
		var image v1.Image
		if err == nil {
			image, err = remote.Image(source)
		}
		if err == nil {
			var target name.Reference
			if target, err = name.ParseReference(two + "@" + built[p].String()); err == nil {
				err = remote.Write(target, image)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Leave(t.Context(), bond, built[p]); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := j.Leave(t.Context(), other, built[p]); err != nil {
				t.Fatal(err)
			}
		}
	}
	var err error
	if j.Parts, err = j.Find(t.Context(), bond); err != nil || len(j.Parts) != 2 || j.Parts[0] != built["linux/amd64"] || j.Parts[1] != built["linux/arm64"] {
		t.Fatalf("found %v of %v, %v", j.Parts, built, err)
	}
	j.Platforms = []string{"linux/arm64", "linux/amd64"}
	pushed, err := j.Push(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := j.Clear(t.Context(), bond, j.Parts); err != nil || len(kept) > 0 {
		t.Errorf("kept %v, %v", kept, err)
	}
	for repository, want := range map[string]string{one: "latest " + other.tag(platforms[:1]) + " v1", two: other.tag(platforms[:1]) + " v1"} {
		if got := tags(t, repository); got != want {
			t.Errorf("tags %s, want %s", got, want)
		}
		ref, err := name.ParseReference(repository + ":v1")
		if err != nil {
			t.Fatal(err)
		}
		got, err := remote.Get(ref)
		if err != nil {
			t.Fatal(err)
		}
		var index ocispecs.Index
		if err := json.Unmarshal(got.Manifest, &index); err != nil || got.Digest.String() != pushed.Digest.String() || len(index.Manifests) != 2 || index.Annotations["a"] != "b" {
			t.Errorf("%s: %s, %v", repository, got.Manifest, err)
		}
	}
}

// TestIncomplete: a platform that is there twice, that is missing, or that is not among the platforms is an error, and nothing is pushed.
func TestIncomplete(t *testing.T) {
	t.Parallel()
	repository := testkit.StartRegistry(t).Repository()
	amd64, again, arm64 := part(t, repository, "linux/amd64"), part(t, repository, "linux/amd64"), part(t, repository, "linux/arm64")
	for want, j := range map[string]Join{
		"two images have the platform linux/amd64":                         {Parts: []digest.Digest{amd64, arm64, again}},
		"no part has the platform linux/s390x; the parts have linux/amd64": {Parts: []digest.Digest{amd64}, Platforms: []string{"linux/amd64", "linux/s390x"}},
		"has the platform linux/arm64, which is none of linux/amd64":       {Parts: []digest.Digest{amd64, arm64}, Platforms: []string{"linux/amd64"}},
		"read " + repository: {Parts: []digest.Digest{digest.FromString("lost")}},
	} {
		j.Names, j.Keychain = []string{repository + ":v1"}, authn.DefaultKeychain
		if _, err := j.Push(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if got := tags(t, repository); got != "" {
		t.Errorf("pushed %s", got)
	}
}

// TestKeptTags: a registry that removes nothing keeps the tags of parts, which is told.
func TestKeptTags(t *testing.T) {
	t.Parallel()
	repository := testkit.StartRegistryWithoutDeletes(t).Repository()
	j, bond := Join{Names: []string{repository + ":v1"}, Keychain: authn.DefaultKeychain}, Bond{Ref: "main", Commit: "c1", Key: "worker"}
	amd64 := part(t, repository, "linux/amd64")
	if err := j.Leave(t.Context(), bond, amd64); err != nil {
		t.Fatal(err)
	}
	kept, err := j.Clear(t.Context(), bond, []digest.Digest{amd64})
	if want := repository + ":" + bond.prefix() + "linux-amd64"; err != nil || strings.Join(kept, " ") != want {
		t.Errorf("kept %q, want %q, %v", kept, want, err)
	}
}
