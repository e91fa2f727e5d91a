package builder_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
)

// ownAddress is an address of this machine on another interface than loopback.
func ownAddress(t testing.TB) string {
	t.Helper()
	if address := machineAddress(t, func(ip net.IP) bool { return ip.To4() != nil }); address != "" {
		return address
	}
	t.Fatal("this machine has loopback addresses only: a step could reach nothing")
	return ""
}

// machineAddress is an address of the machine's interfaces that others may know, "" if none is wanted.
func machineAddress(t testing.TB, wanted func(net.IP) bool) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		if network, ok := one.(*net.IPNet); ok && network.IP.IsGlobalUnicast() && wanted(network.IP) {
			return network.IP.String()
		}
	}
	return ""
}

// serve answers HTTP at an address, and returns the port.
func serve(t testing.TB, address string, h http.HandlerFunc) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go func() { _ = server.Serve(l) }() // until it is closed
	t.Cleanup(func() { server.Close() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }

// nameServer answers each question for an IPv4 address (RFC 1035, section 4) with 203.0.113.7. It
// listens at a UDP port of an address, and returns the port.
func nameServer(t *testing.T, address, port string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(address, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for message := make([]byte, 512); ; {
			n, from, err := conn.ReadFrom(message)
			if err != nil {
				return
			}
			answer := append([]byte(nil), message[:n]...)
			answer[2], answer[3] = 0x81, 0x80 // an answer, and recursion
			if kind := answer[n-3]; kind == 1 {
				answer[7] = 1 // one record: the question's name, A, IN, 60 seconds, 4 bytes
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7)
			}
			_, _ = conn.WriteTo(answer, from) // a lost answer fails the test
		}
	}()
	_, port, _ = net.SplitHostPort(conn.LocalAddr().String())
	return port
}

// onOwnNetwork opens a builder whose steps are on a network of their own.
func onOwnNetwork(t *testing.T, dir string, o builder.Options) *builder.Builder {
	t.Helper()
	o.Address = embedded
	b := open(t, in(dir, o))
	if b.Network != (builder.Network{Steps: builder.NetworkOwn}) {
		t.Fatalf("steps are on %+v, want their own network\n%s", b.Network, b.Log())
	}
	return b
}

// fetch is a shell function: the body of a page, or "refused".
const fetch = `fetch() { wget -q -O - "$@" 2> /dev/null || echo refused; }
`

// A step reaches services at the machine's addresses, over TCP and UDP, and nothing of its loopback
// interface. Nothing answers for machines that are not there.
func TestStepNetwork(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	b := onOwnNetwork(t, dir, builder.Options{})
	address := ownAddress(t)
	script := fetch + fmt.Sprintf(`
fetch http://%[1]s:%[2]s > /outside
for host in 127.0.0.1 127.0.0.2 [::1] [::ffff:127.0.0.1] 0.0.0.0 192.0.0.1 [fd6c:7761:726d::1]; do fetch http://$host:%[3]s; done > /loopback
fetch http://%[1]s:1 > /closed
nslookup name.test %[1]s:%[4]s > /datagrams || true
ping -c 1 -W 1 203.0.113.1 > /dev/null 2>&1 && echo answered > /echo || echo silent > /echo
`, address, serve(t, address, hello), serve(t, "127.0.0.1", hello), nameServer(t, address, "0"))
	files, err := run(t.Context(), b, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.Log())
	}
	for name, want := range map[string]string{
		"outside": "hello", "loopback": strings.Repeat("refused\n", 7), "closed": "refused\n", "echo": "silent\n",
	} {
		if files[name] != want {
			t.Errorf("%s: %q, want %q", name, files[name], want)
		}
	}
	if !strings.Contains(files["datagrams"], "203.0.113.7") {
		t.Errorf("the answer to a datagram is lost: %q", files["datagrams"])
	}
	closeTimely(t, b)
	nothingLeft(t, dir)
}

// A step reaches services over IPv6 where the machine has an address of it.
func TestStepNetworkIPv6(t *testing.T) {
	t.Parallel()
	address := machineAddress(t, func(ip net.IP) bool { return ip.To4() == nil })
	if address == "" {
		t.Skip("this machine has no IPv6 address but those of its loopback interface and its links")
	}
	dir := tempDir(t)
	b := onOwnNetwork(t, dir, builder.Options{})
	files, err := run(t.Context(), b, fetch+fmt.Sprintf("fetch http://[%s]:%s > /outside\n", address, serve(t, address, hello)))
	if err != nil || files["outside"] != "hello" {
		t.Errorf("%q, %v\n%s", files["outside"], err, b.Log())
	}
	closeTimely(t, b)
}

// What steps download and upload arrives complete, also from two builders, with two steps each, at
// once.
func TestStepNetworkLarge(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	source := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{7}), size) }
	digest := sha256.New()
	if _, err := io.Copy(digest, source()); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x", digest.Sum(nil))
	address := ownAddress(t)
	port := serve(t, address, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.Copy(w, source()) // the client's digest tells what is missing
			return
		}
		got := sha256.New()
		_, _ = io.Copy(got, r.Body) // and so does this one
		fmt.Fprintf(w, "%x", got.Sum(nil))
	})
	var eg errgroup.Group
	for range 2 {
		b := onOwnNetwork(t, tempDir(t), builder.Options{})
		for i := range 2 {
			eg.Go(func() error {
				files, err := run(t.Context(), b, fmt.Sprintf(`
mkdir /tmp; wget -q -O /tmp/%[3]d http://%[1]s:%[2]s; sha256sum < /tmp/%[3]d > /down
{ printf 'POST / HTTP/1.0\r\nContent-Length: %[4]d\r\n\r\n'; cat /tmp/%[3]d; } | nc %[1]s %[2]s > /up; rm /tmp/%[3]d`, address, port, i, size))
				if err != nil {
					return fmt.Errorf("%w\n%s", err, b.Log())
				}
				if !strings.HasPrefix(files["down"], want) || !strings.HasSuffix(files["up"], want) {
					return fmt.Errorf("downloaded %q and uploaded %q, want %s", files["down"], files["up"], want)
				}
				return nil
			})
		}
	}
	if err := eg.Wait(); err != nil {
		t.Error(err)
	}
}

// A step on the host's network reaches the machine's loopback interface, where that is allowed, and
// one without a network reaches nothing.
func TestStepNetworkByChoice(t *testing.T) {
	t.Parallel()
	b := onOwnNetwork(t, tempDir(t), builder.Options{Entitlements: []string{"network.host"}})
	outside := ownAddress(t)
	script := fetch + fmt.Sprintf("fetch http://127.0.0.1:%s > /loopback; fetch http://%s:%s > /outside",
		serve(t, "127.0.0.1", hello), outside, serve(t, outside, hello))
	for mode, want := range map[pb.NetMode]string{pb.NetMode_HOST: "hello", pb.NetMode_NONE: "refused\n"} {
		files, err := run(t.Context(), b, script, llb.Network(mode))
		if err != nil {
			t.Fatalf("%v\n%s", err, b.Log())
		}
		if files["loopback"] != want || files["outside"] != want {
			t.Errorf("%s: %q, want %q twice", mode, files, want)
		}
	}
}

// The user's own settings decide.
func TestStepNetworkConfigured(t *testing.T) {
	t.Parallel()
	script := fetch + fmt.Sprintf("fetch http://127.0.0.1:%s > /loopback", serve(t, "127.0.0.1", hello))
	for reason, managed := range map[string]builderspec.Managed{
		"buildkitd-flags sets --oci-worker-net":         {Flags: []string{"--oci-worker-net=host"}},
		"buildkitd.toml sets worker.oci.networkMode":    {Config: "[worker.oci]\nnetworkMode = \"host\"\n"},
		"driver-opts sets BUILDKIT_NETWORK_BRIDGE_AUTO": {Env: []string{"BUILDKIT_NETWORK_BRIDGE_AUTO=false"}},
	} {
		b := open(t, in(tempDir(t), builder.Options{Address: embedded, Managed: managed}))
		if want := (builder.Network{Steps: builder.NetworkConfigured, Reason: reason}); b.Network != want {
			t.Errorf("%+v, want %+v", b.Network, want)
		}
		files, err := run(t.Context(), b, script)
		if err != nil || files["loopback"] != "hello" {
			t.Errorf("%s: %q, %v", reason, files, err)
		}
		closeTimely(t, b)
	}
}

// Other settings stay as the user wrote them.
func TestStepNetworkBesideConfiguration(t *testing.T) {
	t.Parallel()
	b := onOwnNetwork(t, tempDir(t), builder.Options{Managed: builderspec.Managed{
		Config: "insecure-entitlements = [\"network.host\"]\n[worker.oci]\nlabels = { mark = \"kept\" }\n",
	}})
	workers, err := b.Client.ListWorkers(t.Context())
	if err != nil || workers[0].Labels["mark"] != "kept" {
		t.Errorf("the worker is %+v, %v", workers, err)
	}
}

// A builder that was killed and started again still has its networks, and a closed one has no
// goroutine and no descriptor of them.
func TestStepNetworkEnds(t *testing.T) {
	dir := tempDir(t)
	b := onOwnNetwork(t, dir, builder.Options{})
	address := ownAddress(t)
	script := fetch + fmt.Sprintf("fetch http://%s:%s > /outside", address, serve(t, address, hello))
	for i := range 2 {
		files, err := run(t.Context(), b, fmt.Sprintf("%s # %d", script, i))
		if err != nil || files["outside"] != "hello" {
			t.Fatalf("%q, %v\n%s", files, err, b.Log())
		}
		if i == 0 {
			if err := b.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeTimely(t, b)
	nothingLeft(t, dir)
	var stacks strings.Builder
	poll(t, "the end of all goroutines of the network", func() bool {
		stacks.Reset()
		if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(stacks.String(), "gvisor.dev") && !strings.Contains(stacks.String(), "internal/stepnet.")
	})
	for _, link := range entries(t, "/proc/self/fd") {
		if to, _ := os.Readlink("/proc/self/fd/" + link); strings.HasPrefix(to, "socket:[") && packetSocket(link) {
			t.Errorf("a packet socket remains: %s", to)
		}
	}
}

// Where the machine's name servers are on its loopback interface they answer steps, which do not
// reach that.
func TestStepNameServer(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can listen on port 53 and replace resolv.conf")
	}
	needProgram(t, "unshare")
	nameServer(t, "127.0.0.153", "53")
	dir := tempDir(t)
	resolvConf := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(resolvConf, []byte("nameserver 127.0.0.153\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := owner(t, tempDir(t), "unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolvConf)
	cmd.Env = append(cmd.Env, scriptVariable+"=nslookup name.test > /it 2>&1 || true")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "203.0.113.7") {
		t.Errorf("%v\n%s", err, out)
	}
}

// BenchmarkStepNetwork compares steps on their own network with steps on the machine's: the start of a
// builder, twenty steps in a row, and a download.
func BenchmarkStepNetwork(b *testing.B) {
	address := ownAddress(b)
	const size = 1 << 30
	port := serve(b, address, func(w http.ResponseWriter, _ *http.Request) {
		for block, sent := make([]byte, 1<<20), 0; sent < size; sent += len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	for name, flags := range map[string][]string{"own": nil, "host": {"--oci-worker-net=host"}} {
		start := func(b *testing.B) *builder.Builder {
			built, err := builder.Open(b.Context(), in(tempDir(b), builder.Options{Address: embedded, Environ: os.Environ(), Managed: builderspec.Managed{Flags: flags}}))
			if err != nil {
				b.Fatal(err)
			}
			return built
		}
		b.Run("start/"+name, func(b *testing.B) {
			for b.Loop() {
				built := start(b)
				b.StopTimer()
				built.Close()
				b.StartTimer()
			}
		})
		for kind, script := range map[string]string{"steps": "true", "download": fmt.Sprintf("wget -q -O /dev/null http://%s:%s", address, port)} {
			b.Run(kind+"/"+name, func(b *testing.B) {
				built := start(b)
				defer built.Close()
				count := 20
				if kind == "download" {
					b.SetBytes(size)
					count = 1
				}
				n := 0
				for b.Loop() {
					for range count {
						n++
						if _, err := run(b.Context(), built, fmt.Sprintf("%s # %d", script, n)); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

// packetSocket tells whether a descriptor of this process is a packet socket.
func packetSocket(descriptor string) bool {
	fd, err := strconv.Atoi(descriptor)
	if err != nil {
		return false
	}
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && family == unix.AF_PACKET
}
