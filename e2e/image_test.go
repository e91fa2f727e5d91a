package e2e

import (
	"archive/tar"
	"compress/gzip"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// pushBases pushes replacements of the Dockerfile's base images to a registry.
func pushBases(t *testing.T, registry string) (golang, debian string) {
	t.Helper()
	dir := testkit.Bases(t)
	layer := func(file string) v1.Layer {
		layer, err := tarball.LayerFromFile(filepath.Join(dir, file), tarball.WithCompressionLevel(gzip.NoCompression))
		if err != nil {
			t.Fatal(err)
		}
		return layer
	}
	const path = "PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	golang, debian = registry+"/golang:1", registry+"/debian:1"
	testkit.PushImage(t, golang, []string{path, "GOPATH=/go"}, layer("debian.tar"), layer("golang.tar"))
	testkit.PushImage(t, debian, []string{path}, layer("debian.tar"))
	return golang, debian
}

// TestImage builds the image with the program itself, and then uses the image: for steps with their
// builders, for a job of GitLab, and for the action in workflows.
func TestImage(t *testing.T) {
	t.Parallel()
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("it takes minutes, and needs root")
	}
	registry := testkit.StartRegistry(t)
	golang, debian := pushBases(t, registry.Host)
	image := registry.Host + "/warmlayer:v9.9.9"
	made := buildImage(t, golang, debian, image)
	t.Run("again", func(t *testing.T) {
		if again := buildImage(t, golang, debian, registry.Host+"/warmlayer:again"); again != made {
			t.Errorf("the second build is %s, the first is %s", again, made)
		}
	})

	host := testkit.StartDockerd(t)
	engine := testkit.Engine(t, host)
	for _, one := range []string{image, debian} {
		pulled, err := engine.ImagePull(t.Context(), one, client.ImagePullOptions{})
		if err == nil {
			err = pulled.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	inspected, err := engine.ImageInspect(t.Context(), image)
	if err != nil || inspected.Config.Labels["org.opencontainers.image.version"] != "v9.9.9" {
		t.Errorf("labels: %v, %v", inspected.Config, err)
	}
	t.Run("daemons", func(t *testing.T) { checkDaemons(t, image) })
	t.Run("git", func(t *testing.T) { runGit(t, engine, image) })
	t.Run("step", func(t *testing.T) { runSteps(t, host, image) })
	t.Run("rootless", func(t *testing.T) { runRootless(t, engine, image) })
	t.Run("gitlab", func(t *testing.T) { rootlessJob(t, host, image, debian, registry.Host) })
	t.Run("act", func(t *testing.T) { runWorkflows(t, registry.Host, newRunner(t, host, debian, image)) })
	t.Run("prunes", func(t *testing.T) { runPrunes(t, registry.Host, newRunner(t, host, debian, image)) })
	t.Run("parts", func(t *testing.T) { runParts(t, registry.Host, newRunner(t, host, debian, image)) })
	t.Run("bake", func(t *testing.T) { runBake(t, registry.Host, newRunner(t, host, debian, image)) })
	t.Run("matrix", func(t *testing.T) { runMatrix(t, registry.Host, newRunner(t, host, debian, image)) })
}

// buildImage builds and pushes the image as a release does, and returns the digest of the image for
// this machine's platform. Its provenance is checked.
func buildImage(t *testing.T, golang, debian, ref string) v1.Hash {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	testkit.Invocation{Dir: root, Args: []string{
		"--cache", "none", "--build-contexts", "golang=docker-image://" + golang, "--build-contexts", "debian=docker-image://" + debian,
		"--build-args", "VERSION=v9.9.9", "--build-args", "SOURCE_DATE_EPOCH=1", "--platforms", "linux/" + runtime.GOARCH,
		"--provenance", "mode=max", "--outputs", "type=image,push=true,compression=uncompressed,rewrite-timestamp=true,name=" + ref,
	}}.Build(t)
	tag, err := name.ParseReference(ref)
	var pushed v1.ImageIndex
	if err == nil {
		pushed, err = remote.Index(tag)
	}
	var manifest *v1.IndexManifest
	if err == nil {
		manifest, err = pushed.IndexManifest()
	}
	if err != nil || len(manifest.Manifests) != 2 {
		t.Fatalf("%s: %+v, %v", ref, manifest, err)
	}
	of := manifest.Manifests[0].Digest
	if subject := manifest.Manifests[1].Annotations["vnd.docker.reference.digest"]; subject != of.String() {
		t.Errorf("what is attested is of %q, not of %s", subject, of)
	}
	return of
}

// checkDaemons checks that nothing in the layer of the daemons depends on the time of the build, so that
// runners that have it from an earlier release do not pull it again.
func checkDaemons(t *testing.T, ref string) {
	tag, err := name.ParseReference(ref)
	var pulled v1.Image
	if err == nil {
		pulled, err = remote.Image(tag)
	}
	var layers []v1.Layer
	if err == nil {
		layers, err = pulled.Layers()
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		times := map[string]int64{}
		archive := tar.NewReader(content)
		header, err := archive.Next()
		for ; err == nil; header, err = archive.Next() {
			times[header.Name] = header.ModTime.Unix()
		}
		content.Close()
		if _, here := times["usr/local/bin/buildkitd"]; !here {
			continue
		}
		t.Logf("layer %d of %d: %v", i+1, len(layers), times)
		if times["usr/local/bin/rootlesskit"] != 0 || slices.Max(slices.Collect(maps.Values(times))) != 0 {
			t.Error("it has times other than 0, or no rootlesskit")
		}
		return
	}
	t.Error("no layer has buildkitd")
}

// runGit uses git as BuildKit does for a context in a repository with a submodule.
func runGit(t *testing.T, engine *client.Client, image string) {
	code, said := runContainer(t, engine, &container.Config{
		Image: image, Entrypoint: []string{"sh", "-exc", `
export HOME=$(mktemp -d) && cd "$HOME"
git config --global protocol.file.allow always
git config --global user.email a@example.org && git config --global user.name a
git init -q sub && git -C sub commit -q --allow-empty -m sub
git init -q top && git -C top submodule add -q "file://$HOME/sub" sub && git -C top commit -q -m top
git init -q copy && cd copy && git remote add origin "file://$HOME/top"
git fetch -q --depth=1 origin HEAD && git checkout -q FETCH_HEAD && git submodule update --init --recursive --depth=1
test -e sub/.git && test -x "$(git --exec-path)/git-remote-https"`},
	}, &container.HostConfig{})
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, said)
	}
}

// runRootless runs a step as a user other than root, in a container without privileges.
func runRootless(t *testing.T, engine *client.Client, image string) {
	app := testkit.App(t)
	if err := os.Chmod(app, 0o777); err != nil {
		t.Fatal(err)
	}
	code, said := runContainer(t, engine, &container.Config{
		Image: image, User: "1000:1000", WorkingDir: "/work", Env: []string{"HOME=/home/warmlayer"},
		Cmd: []string{"build", "--cache=none", "--outputs=type=tar,dest=out.tar", "--progress=plain"},
	}, &container.HostConfig{
		NetworkMode: "host", Binds: []string{app + ":/work"},
		SecurityOpt: []string{"seccomp=unconfined", "apparmor=unconfined"},
	})
	if archive, err := os.Stat(filepath.Join(app, "out.tar")); code != 0 || err != nil || archive.Size() == 0 {
		t.Errorf("a build: exit code %d, output %v:\n%s", code, err, said)
	}
}

// runSteps runs the step of a job from the image, and then the post step.
func runSteps(t *testing.T, host, image string) {
	a := newAction(t, host, image)
	if code, said, _ := a.step(t, "1", []string{"version"}); code != 0 || said != "v9.9.9\n" {
		t.Errorf("version: exit code %d: %s", code, said)
	}
	inputs := []string{"INPUT_CACHE=none", "INPUT_OUTPUTS=type=tar,dest=" + a.work + "/_temp/out.tar", "INPUT_PROGRESS=plain"}
	if code, said, report := a.step(t, "1", nil, inputs...); code != 0 || len(report.Steps) == 0 {
		t.Errorf("a build: exit code %d:\n%s", code, said)
	}
	if left := testkit.Containers(t, host); len(left) != 1 {
		t.Errorf("%d containers remain for later steps", len(left))
	}
	if code, said, _ := a.step(t, "1", []string{"post"}); code != 0 || strings.TrimSpace(said) != "" {
		t.Errorf("post: exit code %d:\n%s", code, said)
	}
}
