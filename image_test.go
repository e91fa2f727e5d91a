package main

import (
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/backends/backendtest"
)

// bases is where stand-ins for the base images are kept between runs: making them takes
// a minute or two.
const bases = "/dev/shm/warmlayer-bases"

// pushBases puts stand-ins for the Dockerfile's base images into a registry.
func pushBases(t *testing.T, registry string) (golang, debian string) {
	t.Helper()
	_, err := exec.LookPath("mmdebstrap")
	backendtest.Need(t, "image", err)
	if out, err := exec.Command("testdata/bases.sh", bases).CombinedOutput(); err != nil {
		t.Fatalf("make base images: %v\n%s", err, out)
	}
	push := func(ref string, env []string, layers ...string) string {
		image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Env: env}})
		for _, file := range layers {
			if err == nil {
				var layer v1.Layer
				layer, err = tarball.LayerFromFile(filepath.Join(bases, file), tarball.WithCompressionLevel(gzip.NoCompression))
				if err == nil {
					image, err = mutate.AppendLayers(image, layer)
				}
			}
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
		return ref
	}
	const path = "PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	return push(registry+"/golang:1", []string{path, "GOPATH=/go"}, "debian.tar", "golang.tar"),
		push(registry+"/debian:1", []string{path}, "debian.tar")
}

// TestImage builds the image with the program itself, and then with a step and a builder
// that run from it, and as a user in a job of GitLab's.
func TestImage(t *testing.T) {
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("it takes minutes, and root")
	}
	registry := backendtest.StartRegistry(t)
	golang, debian := pushBases(t, registry.Host)
	image := registry.Host + "/warmlayer:v9.9.9"
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	backendtest.Invocation{Dir: root, Args: []string{
		"--cache", "none", "--build-args", "GO=" + golang, "--build-args", "DEBIAN=" + debian,
		"--build-args", "VERSION=v9.9.9", "--build-args", "SOURCE_DATE_EPOCH=1", "--platforms", "linux/" + runtime.GOARCH,
		"--outputs", "type=image,push=true,rewrite-timestamp=true,name=" + image,
	}}.Build(t)

	host := backendtest.StartDockerd(t)
	engine := backendtest.Engine(t, host)
	pulled, err := engine.ImagePull(t.Context(), image, client.ImagePullOptions{})
	if err == nil {
		err = pulled.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	inspected, err := engine.ImageInspect(t.Context(), image)
	if err != nil || inspected.Config.Labels["org.opencontainers.image.version"] != "v9.9.9" {
		t.Errorf("labels: %v, %v", inspected.Config, err)
	}
	a := newAction(t, host, image)
	if code, said, _ := a.step(t, "1", []string{"version"}); code != 0 || said != "v9.9.9\n" {
		t.Errorf("version: exit code %d: %s", code, said)
	}
	inputs := []string{"INPUT_CACHE=none", "INPUT_OUTPUTS=type=tar,dest=" + a.work + "/_temp/out.tar", "INPUT_PROGRESS=plain"}
	if code, said, report := a.step(t, "1", nil, inputs...); code != 0 || len(report.Steps) == 0 {
		t.Errorf("a build: exit code %d:\n%s", code, said)
	}
	if left := backendtest.Containers(t, host); len(left) != 1 {
		t.Errorf("%d containers are left for later steps", len(left))
	}
	if code, said, _ := a.step(t, "1", []string{"post"}); code != 0 || strings.TrimSpace(said) != "" {
		t.Errorf("post: exit code %d:\n%s", code, said)
	}
	rootlessJob(t, host, image, debian, registry.Host)
}
