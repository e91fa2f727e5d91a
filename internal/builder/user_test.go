package builder_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/stepnet"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// ownerVariable names a directory. With it the test binary becomes the owner of a daemon in that
// directory: it runs a step, prints what that wrote to /it and the network that it was on, and waits
// for the end of its input.
const ownerVariable = "WARMLAYER_TEST_OWNER"

// scriptVariable is the script of an owner's step; unset: one that writes "built".
const scriptVariable = "WARMLAYER_TEST_SCRIPT"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == stepnet.Command {
		if stepnet.Attach(os.Getenv, os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(ownerVariable); dir != "" {
		if err := own(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func own(dir string) error {
	ctx := context.Background()
	b, err := builder.Open(ctx, in(dir, builder.Options{Address: embedded, Environ: os.Environ()}))
	if err != nil {
		return err
	}
	files, err := run(ctx, b, cmp.Or(os.Getenv(scriptVariable), "echo built > /it"))
	if err == nil {
		fmt.Print(files["it"])
		fmt.Printf("steps: %+v\n", b.Network)
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	return errors.Join(err, b.Close())
}

// owner returns the command of an owner process.
func owner(t *testing.T, dir string, prefix ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv := append(prefix, self)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), ownerVariable+"="+dir)
	return cmd
}

// startOwner starts an owner process, and returns after its first build.
func startOwner(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	needProgram(t, "buildkitd")
	cmd := owner(t, dir)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "built\n" {
		t.Fatalf("the owner of a daemon printed %q, %v", line, err)
	}
	return cmd
}

// testUser is a user with subordinate ids, made for these tests:
// useradd -m warmlayer-test.
const testUser = "warmlayer-test"

// TestAsAnotherUser runs all tests again as a user other than root, for whom embedded is rootless.
func TestAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is already another user")
	}
	u, err := user.Lookup(testUser)
	testkit.Need(t, "rootless", err)
	needProgram(t, "rootlesskit")
	dir := publicDir(t)

	cmd := exec.Command("setpriv", "--reuid="+u.Uid, "--regid="+u.Gid, "--clear-groups",
		filepath.Join(dir, "builder.test"), "-test.timeout=3m", "-test.failfast")
	cmd.Dir = "/"
	cmd.Env = append(publicEnviron(dir), "HOME="+u.HomeDir, "WARMLAYER_REQUIRE=buildkitd,rootless")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as %s: %v\n%s", testUser, err, out)
	}
}

// TestPermissions opens builders with too few permissions, or just enough.
func TestPermissions(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can drop permissions")
	}
	u, err := user.Lookup(testUser)
	testkit.Need(t, "rootless", err)
	needProgram(t, "rootlesskit")
	asUser := []string{"setpriv", "--reuid=" + u.Uid, "--regid=" + u.Gid, "--clear-groups"}

	for _, test := range []struct {
		name   string
		prefix []string
		want   string
	}{
		{
			name:   "root without CAP_SYS_ADMIN",
			prefix: []string{"setpriv", "--bounding-set=-sys_admin"},
			want:   "run the container with --privileged",
		},
		{
			name:   "root without CAP_NET_ADMIN",
			prefix: []string{"setpriv", "--bounding-set=-net_admin"},
			want:   "built\nsteps: {Steps:host Reason:make a pair of interfaces (veth): operation not permitted}\n",
		},
		{
			name:   "a user without subordinate ids",
			prefix: []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"},
			want:   "usermod --add-subuids 100000-165535",
		},
		{
			name:   "a user without a name",
			prefix: []string{"setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"},
			want:   "give this user id a name in /etc/passwd",
		},
		{
			// As in a container without privileges, with Debian's newuidmap.
			name:   "a user in a container",
			prefix: append([]string{"setpriv", "--bounding-set=-sys_admin"}, asUser...),
			want:   "setcap cap_setuid+ep newuidmap",
		},
		{
			// As in a container whose engine hides files of /proc.
			name:   "a user with a masked /proc",
			prefix: append([]string{"unshare", "--mount", "sh", "-c", `mount --bind /dev/null /proc/kcore; exec "$@"`, "sh"}, asUser...),
			want:   "built\nsteps: {Steps:own Reason:}\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			opensWith(t, test.prefix, test.want)
		})
	}
}

// opensWith opens a builder in a process that a command starts, and checks its output.
func opensWith(t *testing.T, command []string, want string) {
	t.Helper()
	public := publicDir(t)
	dir := filepath.Join(public, "temp")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], append(command[1:], filepath.Join(public, "builder.test"))...)
	cmd.Dir = "/"
	cmd.Env = append(publicEnviron(public), "HOME=/", ownerVariable+"="+dir)
	out, err := cmd.CombinedOutput()
	if !strings.Contains(string(out), want) {
		t.Errorf("got %v\n%s\nwant %s", err, out, want)
	}
	nothingLeft(t, dir)
}

// publicDir returns a directory with this test binary and the programs that it needs, readable for
// all users, independent of the checkout's location.
func publicDir(t *testing.T) string {
	t.Helper()
	dir := tempDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"builder.test": self,
		"buildkitd":    needProgram(t, "buildkitd"),
		"rootlesskit":  needProgram(t, "rootlesskit"),
	} {
		copyProgram(t, path, filepath.Join(dir, name))
	}
	return dir
}

func publicEnviron(dir string) []string {
	return []string{"PATH=" + dir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}
