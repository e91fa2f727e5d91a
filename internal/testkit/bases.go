package testkit

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Bases makes replacements of base images with testdata/bases.sh, and returns the directory of the tar
// files. They are kept between runs: making them takes one or two minutes.
func Bases(t testing.TB, more ...string) string {
	t.Helper()
	_, err := exec.LookPath("mmdebstrap")
	Need(t, "image", err)
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	const dir = "/dev/shm/warmlayer-bases"
	if out, err := exec.Command(filepath.Join(root, "testdata", "bases.sh"), append([]string{dir}, more...)...).CombinedOutput(); err != nil {
		t.Fatalf("make base images: %v\n%s", err, out)
	}
	return dir
}

// PushImage pushes an image of some layers for this machine's architecture, with an environment.
func PushImage(t testing.TB, ref string, env []string, layers ...v1.Layer) {
	t.Helper()
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Env: env}})
	if err == nil {
		image, err = mutate.AppendLayers(image, layers...)
	}
	var tag name.Reference
	if err == nil {
		tag, err = name.ParseReference(ref)
	}
	if err == nil {
		err = remote.Write(tag, image)
	}
	if err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
}

// PushedImage is an image in a registry, of linux/amd64 where the reference is an index.
func PushedImage(t testing.TB, ref string) v1.Image {
	t.Helper()
	tag, err := name.ParseReference(ref)
	var image v1.Image
	if err == nil {
		image, err = remote.Image(tag)
	}
	if err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	return image
}

// PushedManifest is the manifest of [PushedImage].
func PushedManifest(t testing.TB, ref string) *v1.Manifest {
	t.Helper()
	m, err := PushedImage(t, ref).Manifest()
	if err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	return m
}
