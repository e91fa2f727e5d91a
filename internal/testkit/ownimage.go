package testkit

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
)

// LoadOwnImage loads an image for managed builders in containers into an engine, and returns its
// name. It has the programs of the released image, without Debian, and buildctl, as BuildKit's own
// image has.
func LoadOwnImage(t testing.TB, address string) string {
	t.Helper()
	const image = "warmlayer:test"
	files := map[string]string{"usr/local/bin/warmlayer": Program(t)}
	for _, part := range []string{"buildkitd", "buildctl", "runc", "busybox"} {
		path, err := exec.LookPath(part)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + part)
		}
		Need(t, "buildkitd", err)
		files["usr/local/bin/"+part] = path
		for _, library := range libraries(path) {
			files[strings.TrimPrefix(library, "/")] = library
		}
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { w.CloseWithError(writeFiles(w, files)) }()
		return r, nil
	}, tarball.WithCompressionLevel(gzip.NoCompression))
	if err != nil {
		t.Fatal(err)
	}
	made, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		made, err = mutate.Config(made, v1.Config{Entrypoint: []string{"warmlayer"}, Env: []string{"PATH=/usr/local/bin:/bin"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(tarball.Write(name.MustParseReference(image), made, w)) }()
	loaded, err := Engine(t, address).ImageLoad(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Close()
	if said, err := io.ReadAll(loaded); err != nil || bytes.Contains(said, []byte("errorDetail")) {
		t.Fatalf("load image: %v\n%s", err, said)
	}
	return image
}

// libraries are the shared libraries of a program; a static program has none.
func libraries(program string) []string {
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil
	}
	var all []string
	for word := range strings.FieldsSeq(string(out)) {
		if filepath.IsAbs(word) {
			all = append(all, word)
		}
	}
	return all
}

func writeFiles(to io.Writer, files map[string]string) error {
	t := tar.NewWriter(to)
	for _, target := range slices.Sorted(maps.Keys(files)) { // the archive is written twice, with the same digest
		content, err := os.ReadFile(files[target])
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: target, Mode: 0o755, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := t.Write(content); err != nil {
			return err
		}
	}
	for _, other := range []*tar.Header{
		{Typeflag: tar.TypeSymlink, Name: "bin/sh", Linkname: "/usr/local/bin/busybox"},
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
	} {
		if err := t.WriteHeader(other); err != nil {
			return err
		}
	}
	return t.Close()
}

// CreateBuildkit creates a container with a BuildKit from an image, without starting it, as buildx
// does for its builders (v0.37.0, driver/docker-container/driver.go). It gives the container only
// the privileges that a daemon needs, because some machines lack the others.
func CreateBuildkit(t testing.TB, address, image, name string) {
	t.Helper()
	_, err := Engine(t, address).ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name:   name,
		Config: &container.Config{Image: image, Entrypoint: []string{"buildkitd"}},
		HostConfig: &container.HostConfig{
			CapAdd: []string{"SYS_ADMIN", "NET_ADMIN"}, SecurityOpt: []string{"seccomp=unconfined", "apparmor=unconfined"},
			MaskedPaths: []string{}, ReadonlyPaths: []string{}, Tmpfs: map[string]string{"/run": "mode=755"},
			Mounts: []mount.Mount{
				{Type: mount.TypeVolume, Target: "/var/lib/buildkit"},
				{Type: mount.TypeBind, Source: "/sys/fs/cgroup", Target: "/sys/fs/cgroup"},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Containers lists the containers of an engine, running or not.
func Containers(t testing.TB, address string) []string {
	t.Helper()
	found, err := Engine(t, address).ContainerList(t.Context(), client.ContainerListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range found.Items {
		names = append(names, c.ID)
	}
	return names
}
