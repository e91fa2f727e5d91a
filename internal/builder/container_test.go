package builder_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	engine "github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/engineapi"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// inContainer are the options of a builder that runs in a fresh engine.
func inContainer(t *testing.T) builder.Options {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("an engine is started by root")
	}
	host := testkit.StartDockerd(t)
	return builder.Options{
		Address: builderspec.Address{Kind: builderspec.Container}, Environ: os.Environ(), Engine: engineapi.Place{Host: host},
		Managed: builderspec.Managed{Container: builderspec.ContainerOptions{Image: testkit.LoadOwnImage(t, host)}},
	}
}

// nothingInEngine checks that the engine has no containers and no volumes.
func nothingInEngine(t *testing.T, host string) {
	t.Helper()
	if left := testkit.Containers(t, host); len(left) > 0 {
		t.Errorf("containers remain: %v", left)
	}
	volumes, err := testkit.Engine(t, host).VolumeList(t.Context(), engine.VolumeListOptions{})
	if err != nil || len(volumes.Items) > 0 {
		t.Errorf("volumes remain: %v, %v", volumes.Items, err)
	}
}

const once = "head -c 16 /dev/urandom | od -An -tx1 > /once"

func TestContainer(t *testing.T) {
	t.Parallel()
	o, authority := inContainer(t), newAuthority(t)
	o.Managed.Authorities = string(authority.pem)
	b := open(t, o)
	if !b.Managed || b.Address != "container" {
		t.Errorf("Managed = %v, Address = %q", b.Managed, b.Address)
	}
	first, err := run(t.Context(), b, once)
	if err != nil {
		t.Fatalf("solve: %v\n%s", err, b.Log())
	}
	fetch, fetchTLS := fetching(t, b, nil), fetching(t, b, &authority)
	fetch("before")
	fetchTLS("before")
	if err := b.Restart(t.Context()); err != nil {
		t.Fatalf("restart: %v", err)
	}
	fetch("after")
	fetchTLS("after")
	second, err := run(t.Context(), b, once)
	if err != nil || first["once"] == "" || first["once"] != second["once"] {
		t.Errorf("after a restart the step ran again: %q, then %q; %v", first["once"], second["once"], err)
	}
	closeTimely(t, b)
	nothingInEngine(t, o.Engine.Host)
	if !strings.Contains(b.Log(), "running server") {
		t.Errorf("the log lacks the daemon's start: %q", b.Log())
	}
}

// fetching serves files from this process on the builder's loopback interface, with a certificate
// of an authority where one is given, and returns a function that makes the daemon fetch one.
func fetching(t *testing.T, b *builder.Builder, by *authority) func(name string) {
	t.Helper()
	listener, err := b.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	scheme, address := "http", listener.Addr()
	if by != nil {
		cert, key := by.pair(t)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		scheme, listener = "https", tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}})
	}
	var asked atomic.Value
	content := strings.Repeat("0123456789abcdef", 1<<16) // larger than all buffers in between
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.Path)
		fmt.Fprint(w, content)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return func(name string) {
		t.Helper()
		definition, err := llb.HTTP(fmt.Sprintf("%s://%s/%s", scheme, address, name)).Marshal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Client.Solve(t.Context(), definition, client.SolveOpt{}, nil); err != nil || asked.Load() != "/"+name {
			t.Errorf("fetch %s: %v; asked for %v", name, err, asked.Load())
		}
	}
}

// The steps of a builder in a container share its network: they reach neither the machine's loopback
// interface nor abstract sockets, and on the container's only what this process forwards to it. On the
// machine's network, where driver-opts say so, they reach the former.
func TestStepNetworkOfContainer(t *testing.T) {
	t.Parallel()
	o := inContainer(t)
	machine := serve(t, "127.0.0.1", hello)
	for _, test := range []struct {
		network  string // of driver-opts
		want     builder.Network
		loopback string // what a step gets from the machine's
	}{
		{"", builder.Network{Steps: builder.NetworkContainer, Reason: "steps share the network of the builder's container"}, "refused\n"},
		{"host", builder.Network{Steps: builder.NetworkHost, Reason: "the builder's container is on the machine's network"}, "hello"},
	} {
		o.Managed.Container.Network = test.network
		b := open(t, o)
		if b.Network != test.want {
			t.Errorf("driver-opts network=%s: %+v, want %+v", test.network, b.Network, test.want)
		}
		gateway, err := b.Listen(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(hello)}
		go func() { _ = server.Serve(gateway) }() // until it is closed
		_, port, _ := net.SplitHostPort(gateway.Addr().String())
		files, err := run(t.Context(), b, fetch+fmt.Sprintf(`
fetch http://127.0.0.1:%s > /loopback
fetch http://127.0.0.1:%s > /gateway
awk 'NR > 1 && $4 == "0A" { print $2 }' /proc/net/tcp > /listening
cat /proc/net/unix > /sockets`, machine, port))
		if err != nil {
			t.Fatalf("%v\n%s", err, b.Log())
		}
		if files["loopback"] != test.loopback || files["gateway"] != "hello" {
			t.Errorf("driver-opts network=%s: a step gets %q from the machine and %q from the gateway", test.network, files["loopback"], files["gateway"])
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		if only := fmt.Sprintf("0100007F:%04X\n", n); test.network == "" && (files["listening"] != only || strings.Contains(files["sockets"], "@")) {
			t.Errorf("a step sees the sockets %q and %q, want %q and no abstract one", files["listening"], files["sockets"], only)
		}
		server.Close()
		closeTimely(t, b)
	}
	nothingInEngine(t, o.Engine.Host)
}

func TestContainerIsSharedByAJob(t *testing.T) {
	t.Parallel()
	o := inContainer(t)
	o.Job = builder.Job{ID: "run 1", Runner: "runner"}
	o.Managed.Config = "[worker.oci]\n  max-parallelism = 3\n"
	var results []string
	for range 2 {
		b := open(t, o)
		files, err := run(t.Context(), b, once)
		if err != nil {
			t.Fatalf("solve: %v\n%s", err, b.Log())
		}
		results = append(results, files["once"])
		closeTimely(t, b)
	}
	if results[0] == "" || results[0] != results[1] {
		t.Errorf("the second step has another builder: %q", results)
	}
	c := testkit.Engine(t, o.Engine.Host)
	shared := testkit.Containers(t, o.Engine.Host)
	if len(shared) != 1 {
		t.Fatalf("containers of two steps: %v", shared)
	}
	testkit.Until(t, "programs in the container to end", func() bool {
		found, err := c.ContainerInspect(t.Context(), shared[0], engine.ContainerInspectOptions{})
		return err == nil && found.Container.State.Running && len(found.Container.ExecIDs) == 0
	})
	if err := builder.RemoveJob(t.Context(), o.Engine, "run 2"); err != nil || len(testkit.Containers(t, o.Engine.Host)) != 1 {
		t.Errorf("the end of another job removed the builder: %v", err)
	}
	if err := builder.RemoveJob(t.Context(), o.Engine, "run 1"); err != nil {
		t.Error(err)
	}
	nothingInEngine(t, o.Engine.Host)
}

func TestContainerErrors(t *testing.T) {
	t.Parallel()
	o := inContainer(t)
	own := o
	own.Managed.Container.Image = ""
	nowhere := o
	nowhere.Engine.Host = "unix:///nowhere.sock"
	broken := o
	broken.Managed.Config = "root = 7"
	for _, test := range []struct {
		name    string
		options builder.Options
		want    []string
	}{
		{"no engine", nowhere, []string{"builder: no container engine answers at unix:///nowhere.sock: ", "\nhint: mount the engine's socket into this container"}},
		{"in no container", own, []string{"builder: this process does not run in a container of the engine", "\nhint: set driver-opts to image= and the name of warmlayer's image"}},
		{"broken configuration", broken, []string{"builder: buildkitd in the container does not answer", "\n  | ", "\nhint: "}},
	} {
		b, err := builder.Open(t.Context(), test.options)
		if err == nil {
			b.Close()
			t.Errorf("%s: opened", test.name)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nlacks %q", test.name, err, want)
			}
		}
	}
	nothingInEngine(t, o.Engine.Host)
}
