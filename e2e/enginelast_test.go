package e2e

import (
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/testkit"
)

// TestEngineRefuses: what the engine cannot do is refused before the build, all of it at once.
func TestEngineRefuses(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	const (
		builder = "\nhint: set builder: container"
		store   = builder + ", or turn on the engine's containerd image store"
		cache   = "\nhint: use an inline cache, set builder: container, or turn on the engine's containerd image store"
	)
	debian, containerd, app := debians(t), containerds(t), testkit.App(t)
	for what, test := range map[string]struct {
		host string
		env  map[string]string
		args []string
		code int
		want string
	}{
		"by any engine": {host: containerd, code: 2, args: []string{
			"--cache", "type=s3,bucket=b,region=r", "--cache", "inline", "--cache-to", "type=azblob,account_url=https://a.blob.core.windows.net,name=n,container=c",
			"--cache-from", "type=s3,bucket=b,region=r,name=n", "--outputs", "type=image,name=r.example/shop,push=true,push-by-digest=true",
		}, want: "outputs: line 1: the BuildKit inside a container engine does not push by digest" + builder +
			"\ncache: line 1: the BuildKit inside a container engine has no caches of type s3" + builder +
			"\ncache-from: line 1: the BuildKit inside a container engine has no caches of type s3" + builder +
			"\ncache-to: line 1: the BuildKit inside a container engine has no caches of type azblob" + builder},
		"a part": {host: containerd, code: 2, args: []string{"--tags", "r.example/shop", "--push", "--part", "--cache", "none"},
			want: "part: the BuildKit inside a container engine does not push by digest" + builder},
		"a token over plain TCP": {
			host: "tcp://127.0.0.1:1", env: testkit.GHA{}.Env("canary"), args: []string{"--cache", "gha"}, code: 2,
			want: "cache: line 1: type=gha: the token would go to the builder over plain tcp://\nhint: ",
		},
		"without containerd's store": {host: debian, code: 1, args: []string{
			"--platforms", "linux/amd64,linux/386", "--sbom", "true", "--cache", "type=registry,ref=r.example/cache",
			"--cache-from", "type=registry,ref=r.example/shop", "--cache-from", "type=local,src=" + app,
			"--outputs", "type=oci,dest=" + filepath.Join(t.TempDir(), "shop.tar"), "--outputs", "type=image,name=shop,compression=zstd",
		}, want: "platforms: the BuildKit inside this engine makes images of one platform" + store +
			"\nattests: images in this engine have no attestations" + store +
			"\noutputs: line 1: the BuildKit inside this engine makes no archives of images (type oci)" + store +
			"\noutputs: line 2: attribute \"compression\" has no effect on images in this engine" + store +
			"\ncache: line 1: the BuildKit inside this engine has only inline caches, and this one is of type registry" + cache +
			"\ncache-from: line 2: the BuildKit inside this engine has only inline caches, and this one is of type local" + cache},
		"two outputs of an old BuildKit": {host: debian, code: 1, args: []string{
			"--outputs", "type=image,name=shop", "--outputs", "type=local,dest=" + filepath.Join(t.TempDir(), "out"), "--cache", "none",
		}, want: "this builder makes one output, and there are several\nhint: leave all but one out, "},
		"no engine": {host: "unix:///nowhere/docker.sock", code: 1, args: []string{"--cache", "none"},
			want: "builder: no container engine answers at unix:///nowhere/docker.sock"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			run := inside(test.host, app, test.args...)
			maps.Copy(run.Env, test.env)
			out := run.Start(t)
			said := out.Report.Error
			if test.code == 2 {
				said = out.Text
			}
			if out.Code != test.code || !strings.Contains(said, test.want) || len(out.Report.Steps) > 0 {
				t.Errorf("exit code %d:\n%s\nwant:\n%s", out.Code, out.Text, test.want)
			}
		})
	}
}

// TestEngineEmpty: an image without layers does not replace the cache of one with layers.
func TestEngineEmpty(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, start anEngine) {
		host, app, registry := start(t), testkit.App(t), testkit.StartRegistry(t).Host
		build := func() testkit.Report {
			return inside(host, app, "--tags", registry+"/shop", "--push", "--cache", "inline").Build(t)
		}
		build()
		testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch\nLABEL a=b\n")
		if r := build(); r.Outcome(t) != "skipped" || r.Exports[0].Error != "there is no layer to cache" {
			t.Errorf("exports %+v", r.Exports)
		}
	})
}

// TestEngineLeavesOut: the default cache is no reason to refuse a build.
func TestEngineLeavesOut(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	registry := testkit.StartRegistry(t).Host
	r := inside(debians(t), testkit.App(t), "--tags", registry+"/shop:1", "--push").Build(t)
	want := "caches are left out that the BuildKit inside this engine does not have: registry " + registry + "/shop; " +
		"use an inline cache, set builder: container, or turn on the engine's containerd image store"
	if !slices.Equal(r.Warnings, []string{want}) || len(r.Exports)+len(r.Sources) > 0 {
		t.Errorf("warnings %q, exports %v, sources %v", r.Warnings, r.Exports, r.Sources)
	}
}

// TestEngineLast: auto takes the engine when nothing else starts, says why, and leaves out the caches that it
// does not have. An untrusted build, and one with settings of a managed builder, do not get it.
func TestEngineLast(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	host, app := debians(t), testkit.App(t)
	build := func(args ...string) testkit.Output {
		return testkit.Invocation{
			Dir: app, Branch: "main", Env: map[string]string{"DOCKER_HOST": host, "PATH": "/nowhere"},
			Args: append([]string{"--builder", "auto", "--network", "none", "--tags", "shop", "--cache", "type=local,dest=" + t.TempDir()}, args...),
		}.Start(t)
	}
	out := build("--cache-to", "type=registry,ref=r.example/cache")
	if out.Code != 0 || out.Report.Builder != "engine" || len(out.Report.Warnings) != 2 || len(out.Report.Exports) > 0 {
		t.Fatalf("exit code %d, %+v:\n%s", out.Code, out.Report, out.Text)
	}
	for i, words := range [][]string{
		{"builder: auto took the BuildKit inside the container engine, ", "(buildkitd", " not on PATH)", "set builder: engine"},
		{"caches are left out", "local ", "registry r.example/cache; "},
	} {
		for _, w := range words {
			if !strings.Contains(out.Report.Warnings[i], w) {
				t.Errorf("warning %q lacks %q", out.Report.Warnings[i], w)
			}
		}
	}
	for _, args := range [][]string{{"--trusted=false"}, {"--buildkitd-flags=--debug"}} {
		if out := build(args...); out.Code != 1 || !strings.Contains(out.Report.Error, "not on PATH") {
			t.Errorf("%v: exit code %d:\n%s", args, out.Code, out.Text)
		}
	}
}

// TestEngineLastInAJob: a step in a container that may not mount, whose engine forbids the builder's container.
func TestEngineLastInAJob(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	host := debians(t)
	a := newAction(t, host, testkit.LoadOwnImage(t, host))
	a.host = "unix://" + forbidding(t, host)
	code, said, report := a.step(t, "1", nil, "INPUT_BUILDER=auto", "INPUT_NETWORK=none", "INPUT_TAGS=shop", "INPUT_CACHE=none", "INPUT_PROGRESS=plain")
	if code != 0 || report.Builder != "engine" || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "the container engine refuses to run the builder's container") {
		t.Errorf("exit code %d, builder %s, %q:\n%s", code, report.Builder, report.Warnings, said)
	}
	if _, err := testkit.Engine(t, host).ImageInspect(t.Context(), "shop"); err != nil {
		t.Error(err)
	}
}

// forbidding is the socket of an engine that creates no container.
func forbidding(t *testing.T, host string) string {
	t.Helper()
	to := strings.TrimPrefix(host, "unix://")
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) { return net.Dial("unix", to) }},
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/containers/create") {
			http.Error(w, `{"message": "authorization denied by plugin"}`, http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	socket := filepath.Join(testkit.Temp(t), "docker.sock")
	listener, err := net.Listen("unix", socket)
	if err = errors.Join(err, server.Listener.Close()); err != nil {
		t.Fatal(err)
	}
	server.Listener = listener
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return socket
}
