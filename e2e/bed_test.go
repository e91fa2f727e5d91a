package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/warmlayer/warmlayer/backends"
	"github.com/warmlayer/warmlayer/internal/storage"
	"github.com/warmlayer/warmlayer/internal/testkit"
	"github.com/warmlayer/warmlayer/scope"
)

// bed is an app, a builder and a cache for builds one after another, with an account of everything
// that they leave on the machine.
type bed struct {
	run    testkit.Invocation
	root   string // of all its files: app, tmp, home, docker, report, cache
	bin    string // directory of the programs; "": where they are
	user   *syscall.Credential
	cache  testkit.Cache
	engine string // address of its container engine; "": none
	files  string // its inventory after a good build

	tried          map[syscall.Signal]int
	longest        map[syscall.Signal]time.Duration
	early, renewed int
}

// newBed starts everything that builds with a kind of builder and a type of cache need.
func newBed(t *testing.T, kind, cache string) *bed {
	t.Helper()
	b := &bed{root: testkit.Temp(t), tried: map[syscall.Signal]int{}, longest: map[syscall.Signal]time.Duration{}}
	for _, dir := range []string{"app", "tmp", "home", "docker", "report"} {
		if err := os.Mkdir(filepath.Join(b.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	app := filepath.Join(b.root, "app")
	rootfs, err := os.ReadFile(filepath.Join(testkit.App(t), "rootfs.tar"))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, filepath.Join(app, "rootfs.tar"), string(rootfs))
	testkit.Write(t, filepath.Join(app, "Dockerfile"), bedDockerfile)
	b.change(t)
	registry := testkit.StartRegistry(t)
	b.cache = store(t, b.root, cache, registry)
	b.run = testkit.Invocation{Dir: app, Branch: "main", Docker: filepath.Join(b.root, "docker"), Env: map[string]string{
		"TMPDIR": filepath.Join(b.root, "tmp"), "HOME": filepath.Join(b.root, "home"),
	}, Args: []string{"--cache", b.cache.Line, "--tags", registry.Repository() + ":v1", "--push", "--builder"}}
	for name, value := range b.cache.Env {
		b.run.Env[name] = value
	}
	b.on(t, kind)
	return b
}

// bedDockerfile has a base that comes from the cache and is extracted, and a step that takes some
// time and makes a layer of some size.
const bedDockerfile = `FROM scratch AS base
ADD rootfs.tar /
RUN head -c 3000000 /dev/urandom > /base
FROM base
COPY change /change
RUN echo the step runs && head -c 3000000 /dev/urandom > /made && for i in 1 2 3; do sleep 0.1; done
`

// on sets the kind of builder.
func (b *bed) on(t *testing.T, kind string) {
	t.Helper()
	builder := []string{kind}
	switch kind {
	case "remote":
		builder = []string{testkit.StartBuildkitd(t)}
	case "container":
		b.engine = testkit.StartDockerd(t)
		b.run.Env["DOCKER_HOST"] = b.engine
		builder = append(builder, "--driver-opts", "image="+testkit.LoadOwnImage(t, b.engine), "--driver-opts", "network=host")
	case "rootless":
		b.asUser(t)
	}
	b.run.Args = append(b.run.Args, builder...)
}

// asUser makes the bed one of a user other than root, who may have no access to the programs: they
// are copied.
func (b *bed) asUser(t *testing.T) {
	t.Helper()
	const name = "warmlayer-test" // as for internal/builder
	u, err := user.Lookup(name)
	testkit.Need(t, "rootless", err)
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	b.user = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	b.bin = testkit.Temp(t)
	testkit.Program(t)
	for _, program := range []string{"warmlayer", "buildkitd", "rootlesskit"} {
		path, err := exec.LookPath(program)
		testkit.Need(t, "rootless", err)
		content, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(b.bin, program), content, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err = os.Chmod(b.bin, 0o755)
	for _, dir := range []string{"", "app", "app/change", "tmp", "home", "docker", "report"} {
		err = errors.Join(err, os.Chown(filepath.Join(b.root, dir), uid, gid))
	}
	if err != nil {
		t.Fatal(err)
	}
	b.run.Env["PATH"] = b.bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// store is an empty cache of a type. Those behind HTTP answer some milliseconds late, as a store
// elsewhere does, so that a build has them in use for some time.
func store(t *testing.T, dir, kind string, registry testkit.Registry) testkit.Cache {
	t.Helper()
	const late = 20 * time.Millisecond
	switch kind {
	case "local":
		return testkit.Cache{Line: "type=local,dest=" + filepath.Join(dir, "cache")}
	case "registry":
		return testkit.Cache{Line: "type=registry,ref=" + testkit.Delay(t, registry.Host, late) + "/cache"}
	case "s3":
		s := testkit.StartS3(t)
		return testkit.Cache{Line: s.At(testkit.Delay(t, s.Address(), late))}
	case "azblob":
		a := testkit.StartAzblob(t)
		return testkit.Cache{Line: a.At(testkit.Delay(t, a.Address(), late))}
	}
	g := testkit.StartGHABehind(t, func(url string) string {
		host, rest, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
		return strings.TrimSuffix("http://"+testkit.Delay(t, host, late)+"/"+rest, "/")
	})
	return testkit.Cache{Line: "type=gha", Env: g.Env(g.Token("refs/heads/main"))}
}

// change changes the app, so that a build finds its base in the cache, and not the rest.
func (b *bed) change(t *testing.T) {
	t.Helper()
	testkit.Write(t, filepath.Join(b.root, "app", "change"), rand.Text())
}

// command is a build, ready to be started.
func (b *bed) command(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd, reports := b.run.Command(t)
	cmd.Args[slices.Index(cmd.Args, reports)] = filepath.Join(b.root, "report")
	if b.bin != "" {
		cmd.Path = filepath.Join(b.bin, "warmlayer")
	}
	if b.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.user}
	}
	return cmd
}

// build builds to the end.
func (b *bed) build(t *testing.T) (report testkit.Report) {
	t.Helper()
	out, err := b.command(t).CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(b.root, "report", "warmlayer.json"))
	if err == nil {
		err = json.Unmarshal(content, &report)
	}
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// whole checks that the cache is whole: the store has every blob, with the right content. It returns
// the manifest.
func (b *bed) whole(t *testing.T) string {
	t.Helper()
	from := b.cache.Backend(t)
	plan := scope.Plan{Read: []scope.Source{{Name: "b-main", Why: "test"}}}
	r := backends.Read(t.Context(), []backends.Backend{from}, plan, time.Minute)[0]
	if err := r.Verify(); err != nil {
		t.Fatalf("the cache is damaged: %v", err)
	}
	for _, desc := range r.Manifest.Blobs() {
		blob, err := from.Scopes().Open(t.Context(), desc.Digest, 0)
		if err == nil {
			_, err = io.Copy(io.Discard, storage.Verify(blob, desc))
			blob.Close()
		}
		if err != nil {
			t.Fatalf("the cache has a damaged blob: %v", err)
		}
	}
	return string(r.Manifest.Raw)
}

// inventory is every file of builds outside the app and the finished part of the cache.
func (b *bed) inventory(t *testing.T) string {
	t.Helper()
	var all []string
	for _, dir := range []string{"tmp", "home", "docker", "report", "cache/ingest"} {
		err := filepath.WalkDir(filepath.Join(b.root, dir), func(path string, _ os.DirEntry, err error) error {
			all = append(all, strings.TrimPrefix(path, b.root))
			return err
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return strings.Join(all, "\n")
}

// nothingLeft checks that nothing remains of builds: no file, process, mount, socket, container or
// volume.
func (b *bed) nothingLeft(t *testing.T, after string) {
	t.Helper()
	if now := b.inventory(t); now != b.files {
		t.Errorf("%s: the files are\n%s\nand were\n%s", after, now, b.files)
	}
	if left := b.processes(t); len(left) > 0 {
		t.Errorf("%s: processes remain: %s", after, strings.Join(left, "\n"))
	}
	for _, table := range []string{"/proc/self/mountinfo", "/proc/net/unix"} {
		content, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte(b.root)) {
			t.Errorf("%s: %s names %s:\n%s", after, table, b.root, content)
		}
	}
	if b.engine == "" {
		return
	}
	if found := testkit.Containers(t, b.engine); len(found) > 0 {
		t.Errorf("%s: containers remain: %v", after, found)
	}
	volumes, err := testkit.Engine(t, b.engine).VolumeList(t.Context(), client.VolumeListOptions{})
	if err != nil || len(volumes.Items) > 0 {
		t.Errorf("%s: volumes remain: %v, %v", after, volumes.Items, err)
	}
}

// processes are those that run with files of the bed: by their arguments, their environment, or the
// mounts of the container that they are in.
func (b *bed) processes(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, dir := range all {
		for _, file := range []string{"cmdline", "environ", "mountinfo"} {
			content, err := os.ReadFile(filepath.Join(dir, file))
			if err == nil && bytes.Contains(content, []byte(b.root)) {
				line, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // it may have ended
				found = append(found, dir+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))))
				break
			}
		}
	}
	return found
}
