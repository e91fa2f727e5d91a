package testkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh/agent"
)

// patience bounds every wait of the test kit.
const patience = 30 * time.Second

// Until polls until done returns true, and fails the test when that takes too long.
func Until(t testing.TB, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s for %s", patience, what)
		case <-tick.C:
		}
	}
}

// Temp is a directory for big or many files. It is in memory when that has space, since a test's
// builder writes thousands of files.
func Temp(t testing.TB) string {
	t.Helper()
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "warmlayer-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return dir
}

// Registry is distribution's registry, on its own port.
type Registry struct {
	Host string // "127.0.0.1:5001"
	Root string // directory with its files
}

// Repository is the name of a new repository: "127.0.0.1:5001/app-1".
func (r Registry) Repository() string { return r.Host + "/" + unique("app") }

var count atomic.Int64

// unique is a name that is new in this process: "app-1".
func unique(name string) string { return fmt.Sprintf("%s-%d", name, count.Add(1)) }

// StartRegistry starts a registry that runs until the end of the test.
func StartRegistry(t testing.TB) Registry { return startRegistry(t, "") }

// StartPrivateRegistry starts a registry that accepts only a single user, for pulls and pushes.
func StartPrivateRegistry(t testing.TB, user, password string) Registry {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "htpasswd")
	Write(t, users, user+":"+string(hash)+"\n")
	return startRegistry(t, fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}\n", users))
}

// StartRegistryWithoutDeletes starts a registry that removes nothing, as distribution does by default.
func StartRegistryWithoutDeletes(t testing.TB) Registry {
	t.Helper()
	return startRegistryOf(t, strings.Replace(registryConfig, "delete: {enabled: true}", "delete: {enabled: false}", 1))
}

// startRegistry starts a registry with more lines in its configuration.
func startRegistry(t testing.TB, more string) Registry {
	t.Helper()
	return startRegistryOf(t, registryConfig+more)
}

// startRegistryOf starts a registry with a configuration like registryConfig.
func startRegistryOf(t testing.TB, form string) Registry {
	t.Helper()
	program, err := exec.LookPath("registry")
	Need(t, "registry", err)
	r := Registry{Host: freeAddress(t), Root: Temp(t)}
	config := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf(form, r.Root, r.Host)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(program, "serve", config), func() bool { return answers("http://" + r.Host + "/v2/") })
	return r
}

// The registry refuses an index whose entries are layers, as caches have it, unless the check of an
// index's platforms is off.
const registryConfig = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}
http: {addr: "%s"}
validation: {manifests: {indexes: {platforms: none}}}
`

// start runs a server until the end of the test, and returns when it is ready. When the test fails,
// the end of the server's output is shown.
func start(t testing.TB, cmd *exec.Cmd, ready func() bool) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), filepath.Base(cmd.Path)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Stderr = log; cmd.Stdout == nil {
		cmd.Stdout = log
	}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// Some servers end with the thread that started them (Pdeathsig), and a thread ends with a
		// goroutine that has locked it. So this goroutine and its thread stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the error says that it was killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // an error says that it has ended by itself
		<-ended
		if said, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("the end of the output of %v:\n%s", cmd.Args, said[max(0, len(said)-500):])
		}
		log.Close()
	})
	Until(t, cmd.Path, func() bool {
		select {
		case <-ended:
			t.Fatalf("%v ended: %s", cmd.Args, cmd.ProcessState)
		default:
		}
		return ready()
	})
}

// answers tells whether a server is ready: it answers, or requires a login.
func answers(url string) bool {
	response, err := http.Get(url)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK || response.StatusCode == http.StatusUnauthorized
}

// freeAddress reserves an address without a listener until the end of the test. Its port is below those that
// Linux gives to connections and to listeners on port 0 (32768 and above: Documentation/networking/ip-sysctl.rst),
// and an abstract socket with the port as its name keeps the tests of other processes from choosing it.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(20000)
		reserved, err := net.Listen("unix", fmt.Sprintf("@warmlayer-test-%d", port))
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			reserved.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { reserved.Close() })
		return l.Addr().String()
	}
	t.Fatal("no port is free between 10000 and 30000")
	return ""
}

func listens(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// StartGit serves the repositories in a directory by Git's own protocol until the end of the test,
// and returns the URL: "git://127.0.0.1:9418".
func StartGit(t testing.TB, dir string) string {
	t.Helper()
	address := freeAddress(t)
	host, port, _ := strings.Cut(address, ":")
	// The program git would start git-daemon as a child, which outlives it, so this starts
	// git-daemon itself.
	out, err := exec.Command("git", "--exec-path").Output()
	Need(t, "git", err)
	program := filepath.Join(strings.TrimSpace(string(out)), "git-daemon")
	start(t, exec.Command(program, "--export-all", "--base-path="+dir, "--listen="+host, "--port="+port), func() bool { return listens(address) })
	return "git://" + address
}

// StartSSHAgent serves keys as an SSH agent until the end of the test, and returns its socket.
func StartSSHAgent(t testing.TB, keys agent.Agent) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(keys, conn) // until the client disconnects
			}()
		}
	}()
	return socket
}
