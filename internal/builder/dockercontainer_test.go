package builder_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	engine "github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/engineapi"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestDockerContainer builds in a container that another program made: first one that is not
// running, then one that runs, in the engine that the address names.
func TestDockerContainer(t *testing.T) {
	t.Parallel()
	o := inContainer(t)
	testkit.CreateBuildkit(t, o.Engine.Host, o.Managed.Container.Image, "buildx_buildkit_b10")
	const address = "docker-container://buildx_buildkit_b10"
	elsewhere := address + "?" + url.Values{"context": {o.Engine.Host}}.Encode()
	var results []string
	for _, o := range []builder.Options{
		{Address: remote(t, address), Engine: o.Engine},
		{Address: remote(t, elsewhere), Engine: engineapi.Place{Host: "unix:///nowhere.sock"}},
	} {
		b := open(t, o)
		if b.Managed || b.Address != address || len(b.Platforms) == 0 {
			t.Errorf("Managed %v, Address %q, Platforms %v", b.Managed, b.Address, b.Platforms)
		}
		files, err := run(t.Context(), b, once)
		if err != nil {
			t.Fatalf("solve: %v", err)
		}
		results = append(results, files["once"])
		closeTimely(t, b)
		if err := b.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	}
	if results[0] == "" || results[0] != results[1] {
		t.Errorf("the builds ran in different daemons: %q", results)
	}
	c := testkit.Engine(t, o.Engine.Host)
	testkit.Until(t, "programs in the container to end, but for the daemon", func() bool {
		found, err := c.ContainerInspect(t.Context(), "buildx_buildkit_b10", engine.ContainerInspectOptions{})
		return err == nil && found.Container.State.Running && len(found.Container.ExecIDs) == 0
	})
}

func TestDockerContainerErrors(t *testing.T) {
	t.Parallel()
	o := inContainer(t)
	host := o.Engine.Host
	const absent = "builder: the container engine at HOST has no buildx builder b1"
	check := func(address, want, hint string) {
		t.Helper()
		o := o
		o.Address = remote(t, address)
		b, err := builder.Open(t.Context(), o)
		if err == nil {
			b.Close()
			t.Errorf("%s: opened", address)
			return
		}
		if !strings.HasPrefix(err.Error(), strings.ReplaceAll(want, "HOST", host)) || !strings.Contains(err.Error(), "\nhint: "+hint) {
			t.Errorf("%s:\n got %v\nwant %s, %s", address, err, want, hint)
		}
	}
	check("docker-container://buildx_buildkit_b10", absent, "start it (docker buildx inspect --bootstrap b1), or leave builder out")
	check("docker-container://bk", "builder: the container engine at HOST has no container bk", "docker ps --all")
	check("docker-container://bk?context=unix%3A%2F%2F%2Fnowhere.sock", "builder: find container bk: no container engine answers at unix:///nowhere.sock: ", "mount the engine's socket")

	c := testkit.Engine(t, host)
	for name, env := range map[string]string{"buildx_buildkit_other0": "PATH=/usr/local/bin", "bare": "PATH=/nowhere"} {
		_, err := c.ContainerCreate(t.Context(), engine.ContainerCreateOptions{Name: name, Config: &container.Config{
			Image: o.Managed.Container.Image, Entrypoint: []string{"/usr/local/bin/busybox", "sleep", "600"}, Env: []string{env},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ContainerStart(t.Context(), name, engine.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	check("docker-container://buildx_buildkit_b10", absent, "use one that exists (other), start it")
	for _, name := range []string{"buildx_buildkit_other0", "bare"} {
		check("docker-container://"+name, "builder: no BuildKit answers at docker-container://"+name+": ", "check that BuildKit runs in the container, and that its image has buildctl, as moby/buildkit has: docker logs "+name)
	}
}
