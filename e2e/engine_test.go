package e2e

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// gateway is where steps reach the machine of a test's engine.
const gateway = "10.99.0.1"

// anEngine starts one kind of engine, and returns its address. An engine is started by root.
type anEngine func(*testing.T) string

var (
	debians anEngine = func(t *testing.T) string { return testkit.StartDockerd(t) }
	// The store is that of a graph driver, as in Debian's, with a current BuildKit.
	graphs anEngine = func(t *testing.T) string {
		return testkit.StartEngine(t, "moby-dockerd", `{"features": {"containerd-snapshotter": false}}`)
	}
	containerds anEngine = func(t *testing.T) string {
		return testkit.StartEngine(t, "moby-dockerd", `{"host-gateway-ip": "`+gateway+`"}`)
	}
	engines = map[string]anEngine{"Debian's": debians, "graph driver": graphs, "containerd": containerds}
)

// eachEngine runs a test on each kind of engine.
func eachEngine(t *testing.T, test func(*testing.T, anEngine)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	for kind, start := range engines {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, start)
		})
	}
}

// inside is a build on the BuildKit inside an engine, whose steps have no network, as the engines of tests.
func inside(host, app string, args ...string) testkit.Invocation {
	return testkit.Invocation{
		Dir: app, Branch: "main", Env: map[string]string{"DOCKER_HOST": host},
		Args: append([]string{"--builder", "engine", "--network", "none"}, args...),
	}
}

// metadata is the output of that name.
func metadata(t *testing.T, out testkit.Output) map[string]any {
	t.Helper()
	var found map[string]any
	for line := range strings.Lines(out.Files) {
		if text, ok := strings.CutPrefix(line, "WARMLAYER_METADATA="); ok {
			if err := json.Unmarshal([]byte(text), &found); err != nil {
				t.Fatal(err)
			}
		}
	}
	return found
}

// TestEngine: the image is in the engine without an archive, with load and where no output is named, and the
// outputs have the ID by which the engine knows it.
func TestEngine(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, start anEngine) {
		host, app := start(t), testkit.App(t)
		for args, tag := range map[string]string{"--tags shop:plain": "shop:plain", "--tags shop:load --load": "shop:load", "--tags shop:off --push=false": "shop:off"} {
			out := inside(host, app, append(strings.Fields(args), "--cache", "none")...).Start(t)
			image, err := testkit.Engine(t, host).ImageInspect(t.Context(), tag)
			if err != nil || out.Code != 0 {
				t.Fatalf("%s: exit code %d, %v:\n%s", args, out.Code, err, out.Text)
			}
			if image.ID != out.Report.ImageID || out.Report.Digest != image.ID || out.Report.Builder != "engine" || len(out.Report.Warnings) > 0 {
				t.Errorf("%s: image %s, the engine has %s: %+v", args, out.Report.ImageID, image.ID, out.Report)
			}
			if len(image.RootFS.Layers) != 4 || strings.Contains(out.Text, "importing to docker") {
				t.Errorf("%s: layers %v\n%s", args, image.RootFS.Layers, out.Text)
			}
			m := metadata(t, out)
			if m["image.name"] != "docker.io/library/"+tag || m["containerimage.digest"] != image.ID || !strings.HasPrefix(m["buildx.build.ref"].(string), "warmlayer/engine/") {
				t.Errorf("%s: metadata %v", args, m)
			}
		}
		before := len(images(t, host))
		if r := inside(host, app, "--outputs", "type=cacheonly", "--cache", "none").Build(t); r.Digest != "" || len(images(t, host)) != before {
			t.Errorf("with cacheonly: image %q", r.Digest)
		}
		out := filepath.Join(t.TempDir(), "out")
		inside(host, app, "--outputs", "type=local,dest="+out, "--cache", "none").Build(t)
		if _, err := os.Stat(filepath.Join(out, "www", "index.html")); err != nil {
			t.Error(err)
		}
	})
}

func images(t *testing.T, host string) []string {
	t.Helper()
	found, err := testkit.Engine(t, host).ImageList(t.Context(), client.ImageListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, i := range found.Items {
		ids = append(ids, i.ID)
	}
	return ids
}

// TestEngineInline: the image is loaded, and pushed under all names with the run's credentials, and another engine, which is
// empty, finds all steps in its cache. The outputs have the digest in the registry.
func TestEngineInline(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, start anEngine) {
		registry, app := testkit.StartPrivateRegistry(t, "me", "hunter2-canary").Host, testkit.App(t)
		build := func(host string) testkit.Report {
			run := inside(host, app, "--tags", registry+"/shop:1\n"+registry+"/shop:2", "--push", "--load", "--cache", "inline")
			maps.Copy(run.Env, map[string]string{"INPUT_REGISTRY": registry, "INPUT_USERNAME": "me", "INPUT_PASSWORD": "hunter2-canary"})
			return run.Build(t)
		}
		first := start(t)
		cold := build(first)
		for _, tag := range []string{"1", "2", "cache-b-main"} {
			if got := digestOf(t, registry+"/shop:"+tag); got != cold.Digest {
				t.Errorf("%s is %s, want %s", tag, got, cold.Digest)
			}
		}
		image, err := testkit.Engine(t, first).ImageInspect(t.Context(), registry+"/shop:1")
		if err != nil || image.ID != cold.ImageID || !slices.Contains(image.RepoDigests, registry+"/shop@"+cold.Digest) {
			t.Errorf("image %s, the engine has %s %v: %v", cold.ImageID, image.ID, image.RepoDigests, err)
		}
		if cold.Outcome(t) != "written" || cold.Phase("push") == 0 || cold.Cached() == len(cold.Steps) {
			t.Errorf("cold: %d of %d steps cached, cache %s, push %g s", cold.Cached(), len(cold.Steps), cold.Outcome(t), cold.Phase("push"))
		}
		warm := build(start(t))
		if warm.Cached() != len(warm.Steps) || warm.Source("b-main") != "loaded" || len(warm.Warnings) > 0 {
			t.Errorf("warm: %d of %d steps cached, source %s, %v", warm.Cached(), len(warm.Steps), warm.Source("b-main"), warm.Warnings)
		}
	})
}

// digestOf is the digest of an image in the registry of [TestEngineInline].
func digestOf(t *testing.T, image string) string {
	t.Helper()
	ref, err := name.ParseReference(image, name.Insecure)
	if err == nil {
		found, failed := remote.Get(ref, remote.WithAuth(&authn.Basic{Username: "me", Password: "hunter2-canary"}), remote.WithContext(t.Context()))
		if err = failed; err == nil {
			return found.Digest.String()
		}
	}
	t.Fatal(err)
	return ""
}

// TestEngineCaches: with containerd's store an engine writes and reads the caches of three more types. Another
// engine, which is empty, finds all steps in each.
func TestEngineCaches(t *testing.T) {
	t.Parallel()
	gha := testkit.StartGHA(t)
	for kind, c := range map[string]struct {
		line string
		env  map[string]string
	}{
		"registry": {line: "type=registry,ref=" + testkit.StartRegistry(t).Host + "/cache"},
		"local":    {line: "type=local,dest=" + t.TempDir()},
		"gha":      {line: "gha", env: gha.Env(gha.Token("refs/heads/main"))},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if os.Geteuid() != 0 {
				t.Skip("an engine is started by root")
			}
			build := func() testkit.Report {
				run := inside(containerds(t), testkit.App(t), "--tags", "shop", "--cache", c.line)
				maps.Copy(run.Env, c.env)
				return run.Build(t)
			}
			if cold := build(); cold.Outcome(t) != "written" {
				t.Errorf("cold: cache %s", cold.Outcome(t))
			}
			if warm := build(); warm.Cached() != len(warm.Steps) || warm.Source("b-main") != "loaded" {
				t.Errorf("warm: %d of %d steps cached, source %s", warm.Cached(), len(warm.Steps), warm.Source("b-main"))
			}
		})
	}
}

// TestEngineMounts: the files of a cache mount come to another engine, which is empty, as to remote builders.
func TestEngineMounts(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	app, cache := testkit.App(t), t.TempDir()
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch AS base\nADD rootfs.tar /\nFROM base\nCOPY site /site\nRUN --mount=type=cache,target=/kept echo more >> /kept/file && cp /kept/file /\n")
	out := filepath.Join(t.TempDir(), "out")
	build := func() testkit.Report {
		return inside(containerds(t), app, "--cache", "type=local,dest="+cache, "--cache-mounts", "auto", "--outputs", "type=local,dest="+out).Build(t)
	}
	if r := build(); len(r.Mounts) != 1 || r.Mounts[0].Saved == nil {
		t.Errorf("mounts %+v", r.Mounts)
	}
	testkit.Write(t, filepath.Join(app, "site", "index.txt"), "Changed\n")
	r := build()
	if file, err := os.ReadFile(filepath.Join(out, "file")); err != nil || string(file) != "more\nmore\n" {
		t.Errorf("the file is %q, %v; mounts %+v", file, err, r.Mounts)
	}
}

// TestEngineAttests: with containerd's store an image in the engine has attestations, or fixed times.
func TestEngineAttests(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	host, registry := containerds(t), testkit.StartRegistry(t).Host
	r := inside(host, testkit.App(t), "--tags", registry+"/shop", "--push", "--provenance", "mode=max", "--cache", "none").Build(t)
	index, err := remote.Index(must(t)(name.ParseReference(registry+"/shop", name.Insecure)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 2 || r.ImageID != r.Digest {
		t.Errorf("index %+v, %v; image %s, digest %s", m, err, r.ImageID, r.Digest)
	}
	inside(host, testkit.App(t), "--build-args", "SOURCE_DATE_EPOCH=1", "--outputs", "type=image,name=fixed,rewrite-timestamp=true", "--cache", "none").Build(t)
	if _, err := testkit.Engine(t, host).ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &container.Config{Image: "fixed", Cmd: []string{"sh"}}}); err != nil {
		t.Errorf("a container of the image with fixed times: %v", err) // the engine unpacks the image for it
	}
}

func must(t *testing.T) func(name.Reference, error) name.Reference {
	return func(r name.Reference, err error) name.Reference {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// TestEngineHosts: host-gateway is the machine of the engine. An engine that does not tell refuses it.
func TestEngineHosts(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	app := testkit.App(t)
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch AS base\nADD rootfs.tar /\nFROM base\nRUN grep machine /etc/hosts > /hosts\n")
	out := filepath.Join(t.TempDir(), "out")
	inside(containerds(t), app, "--add-hosts", "machine=host-gateway", "--outputs", "type=local,dest="+out, "--cache", "none").Build(t)
	if hosts, err := os.ReadFile(filepath.Join(out, "hosts")); err != nil || !strings.HasPrefix(string(hosts), gateway) {
		t.Errorf("hosts %q, %v", hosts, err)
	}
	const want = "add-hosts: this engine does not say which address host-gateway is\n"
	if out := inside(debians(t), app, "--add-hosts", "machine=host-gateway", "--cache", "none").Start(t); out.Code != 1 || !strings.Contains(out.Text, want) {
		t.Errorf("exit code %d:\n%s", out.Code, out.Text)
	}
}

// TestEngineFails: a step that fails is explained as on other builders, and nothing is in the engine.
func TestEngineFails(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, start anEngine) {
		host, app := start(t), testkit.App(t)
		testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch AS base\nADD rootfs.tar /\nFROM base\nRUN echo reason && exit 7\n")
		out := inside(host, app, "--tags", "shop", "--cache", "none").Start(t)
		if out.Code != 1 || !strings.Contains(out.Report.Error, "exit code: 7") || !strings.Contains(out.Text, "reason") {
			t.Errorf("exit code %d, error %q:\n%s", out.Code, out.Report.Error, out.Text)
		}
		if left := images(t, host); len(left) > 0 {
			t.Errorf("the engine has %v", left)
		}
	})
}

// TestEngineCancelled: a signal ends the build, and the step of it in the engine.
func TestEngineCancelled(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, start anEngine) {
		host, app := start(t), testkit.App(t)
		testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch AS base\nADD rootfs.tar /\nFROM base\nRUN echo it-runs && sleep 1h\n")
		cmd, _ := inside(host, app, "--tags", "shop", "--cache", "none").Command(t)
		said := newMoment(" it-runs")
		cmd.Stdout, cmd.Stderr = said, said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-said.come:
		case <-time.After(time.Minute):
			t.Error("the step does not run")
		}
		began := time.Now()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the code tells
		if took := time.Since(began); cmd.ProcessState.ExitCode() != 130 || took > 10*time.Second {
			t.Errorf("exit code %d after %v:\n%s", cmd.ProcessState.ExitCode(), took, said)
		}
		if r := inside(host, app, "--target", "base", "--tags", "shop", "--cache", "none").Build(t); r.ImageID == "" {
			t.Errorf("the next build has no image")
		}
	})
}

// TestEngineLikeBuildx: the images, loaded and pushed, and the keys of the metadata are those of docker buildx. BuildKit of
// Debian's engine does not name the image.
func TestEngineLikeBuildx(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, start anEngine) {
		host, app, registry := start(t), testkit.App(t), testkit.StartRegistry(t).Host
		env := map[string]string{"DOCKER_HOST": host, "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
		for what, args := range map[string][]string{
			"load": {"--load"}, "push": {"--push"}, "default": {},
		} {
			file := filepath.Join(t.TempDir(), "metadata.json")
			testkit.Buildx(t, env, slices.Concat([]string{"build", "--builder", "default", "--network", "none",
				"--build-arg", "SOURCE_DATE_EPOCH=1", "--build-arg", "BUILDKIT_INLINE_CACHE=1", "--tag", registry + "/theirs/" + what, "--metadata-file", file}, args, []string{app})...)
			var theirs map[string]any
			content, err := os.ReadFile(file)
			if err = errors.Join(err, json.Unmarshal(content, &theirs)); err != nil {
				t.Fatal(err)
			}
			out := inside(host, app, slices.Concat([]string{"--cache", "none", "--build-args", "SOURCE_DATE_EPOCH=1", "--build-args", "BUILDKIT_INLINE_CACHE=1", "--tags", registry + "/ours/" + what}, args)...).Start(t)
			ours := metadata(t, out)
			if theirs["image.name"] == nil {
				delete(ours, "image.name")
			}
			if got, want := slices.Sorted(maps.Keys(ours)), slices.Sorted(maps.Keys(theirs)); !slices.Equal(got, want) {
				t.Errorf("%s: metadata %v, buildx has %v", what, got, want)
			}
			for _, key := range []string{"containerimage.digest", "containerimage.config.digest"} {
				if ours[key] != theirs[key] {
					t.Errorf("%s: %s is %v, buildx has %v\n%s", what, key, ours[key], theirs[key], out.Text)
				}
			}
		}
	})
}

// TestEngineBase: an image that the engine has stands for that of the registry, as with docker buildx, unless pull is set.
func TestEngineBase(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, start anEngine) {
		host, app, base := start(t), testkit.App(t), testkit.StartRegistry(t).Host+"/base:1"
		file := "FROM scratch AS base\nADD rootfs.tar /\nFROM base\nRUN echo "
		testkit.Write(t, filepath.Join(app, "Dockerfile"), file+"pushed > /from\n")
		inside(host, app, "--tags", base, "--push", "--cache", "none").Build(t)
		testkit.Write(t, filepath.Join(app, "Dockerfile"), file+"kept > /from\n")
		inside(host, app, "--tags", base, "--cache", "none").Build(t)
		testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM "+base+"\nRUN cp /from /got\n")
		for want, args := range map[string][]string{"kept\n": nil, "pushed\n": {"--pull"}} {
			out := filepath.Join(t.TempDir(), "out")
			inside(host, app, append(args, "--outputs", "type=local,dest="+out, "--cache", "none")...).Build(t)
			if got, err := os.ReadFile(filepath.Join(out, "got")); err != nil || string(got) != want {
				t.Errorf("%v: base %q, %v, want %q", args, got, err, want)
			}
		}
	})
}

// TestEngineByBuildxName: buildx calls the builder default.
func TestEngineByBuildxName(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	host, app := debians(t), testkit.App(t)
	for _, test := range []struct{ variable, builder string }{{"", "default"}, {"default", "auto"}} {
		run := inside(host, app, "--cache", "none")
		run.Args = append(run.Args, "--builder", test.builder)
		run.Args = slices.DeleteFunc(run.Args, func(arg string) bool { return arg == "engine" })
		run.Args = slices.Delete(run.Args, 0, 1)
		if run.Env["BUILDX_BUILDER"] = test.variable; run.Build(t).Builder != "engine" {
			t.Errorf("%+v: another builder", test)
		}
	}
}
