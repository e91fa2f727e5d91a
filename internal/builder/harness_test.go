package builder_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/builderspec"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// tools is a static busybox: everything that a step needs, without pulling an image.
const tools = "/bin/busybox"

// tempDir returns a short path to an empty directory. It is in memory where that is large enough
// and allows running programs: container engines give 64 MiB, without exec.
func tempDir(t testing.TB) string {
	t.Helper()
	parent := "/dev/shm"
	var fs unix.Statfs_t
	if err := unix.Statfs(parent, &fs); err != nil || fs.Flags&unix.ST_NOEXEC != 0 || fs.Bavail*uint64(fs.Bsize) < 2<<30 {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "wl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// embedded is the address of a managed builder that is a process.
var embedded = builderspec.Address{Kind: builderspec.Embedded}

// remote parses the address of a builder that runs already.
func remote(t *testing.T, text string) builderspec.Address {
	t.Helper()
	a, problem := builderspec.ParseAddress(text)
	if problem != nil {
		t.Fatal(problem)
	}
	return a
}

// in are the options for a builder that has its private directory in dir, and whose steps have a
// network of their own: TestMain makes it.
func in(dir string, o builder.Options) builder.Options {
	if program, err := os.Executable(); err == nil {
		o.Program = program
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	o.Environ = append(slices.Clip(o.Environ), "TMPDIR="+dir)
	return o
}

// open opens a builder that is closed when the test ends, at the latest.
func open(t *testing.T, o builder.Options) *builder.Builder {
	t.Helper()
	for _, program := range []string{"buildkitd", "runc"} {
		needProgram(t, program)
	}
	if os.Geteuid() != 0 {
		needProgram(t, "rootlesskit")
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	b, err := builder.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// needProgram returns the path of a program that the test needs.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	testkit.Need(t, "buildkitd", err)
	return path
}

// closeTimely closes a builder within the short time that a CI gives.
func closeTimely(t *testing.T, b *builder.Builder) {
	t.Helper()
	start := time.Now()
	if err := b.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("close took %v", took)
	}
}

// nothingLeft checks that no file, process or mount remains of the daemons that had their
// directories in dir.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left := entries(t, dir); len(left) > 0 {
		t.Errorf("files remain: %v", left)
	}
	if left := processes(t, dir); len(left) > 0 {
		t.Errorf("processes remain: %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) || strings.HasPrefix(line, "runc ") {
			t.Errorf("a mount remains: %s", line)
		}
	}
}

// entries lists a directory.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// processes returns the ids of the processes whose command line contains mark.
func processes(t *testing.T, mark string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(mark)) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}

// signalDaemon sends a signal to the one buildkitd with files in dir.
func signalDaemon(t *testing.T, dir string, s syscall.Signal) {
	t.Helper()
	for _, pid := range processes(t, dir) {
		text, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		program, _, _ := strings.Cut(string(text), "\x00")
		if filepath.Base(program) != "buildkitd" {
			continue
		}
		id, err := strconv.Atoi(pid)
		if err == nil {
			err = syscall.Kill(id, s)
		}
		if err != nil {
			t.Fatalf("signal buildkitd: %v", err)
		}
		return
	}
	t.Fatal("no buildkitd to signal")
}

// poll waits until a condition holds.
func poll(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// run runs a shell script as a build step, and returns the small files in the root file system
// after the step. The step may be on the host's network where the builder allows that.
func run(ctx context.Context, b *builder.Builder, script string, o ...llb.RunOption) (map[string]string, error) {
	source, err := fsutil.NewFS(filepath.Dir(tools))
	if err != nil {
		return nil, err
	}
	name := filepath.Base(tools)
	local := llb.Local("tools", llb.IncludePatterns([]string{name}))
	step := llb.Scratch().
		File(llb.Copy(local, name, "/bin/"+name, &llb.CopyInfo{CreateDestPath: true})).
		Run(append(o, llb.Args([]string{"/bin/" + name, "sh", "-ec", "/bin/" + name + " --install -s /bin; PATH=/bin; " + script}))...)
	definition, err := step.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	var image bytes.Buffer
	var allowed []string
	if len(o) > 0 {
		allowed = []string{entitlements.EntitlementNetworkHost.String()}
	}
	_, err = b.Client.Solve(ctx, definition, client.SolveOpt{
		AllowedEntitlements: allowed, LocalMounts: map[string]fsutil.FS{"tools": source},
		Exports: []client.ExportEntry{{
			Type:   client.ExporterTar,
			Output: func(map[string]string) (io.WriteCloser, error) { return nopCloser{&image}, nil },
		}},
	}, nil)
	if err != nil {
		return nil, err
	}
	return smallFiles(&image)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// smallFiles returns the files of at most 4 KiB in a tar archive.
func smallFiles(r io.Reader) (map[string]string, error) {
	files := make(map[string]string)
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if header.Typeflag == tar.TypeReg && header.Size <= 4<<10 {
			text, err := io.ReadAll(archive)
			if err != nil {
				return nil, err
			}
			files[header.Name] = string(text)
		}
	}
}

// programs returns a directory with all programs that a daemon needs, for use as PATH.
func programs(t *testing.T) string {
	t.Helper()
	dir := tempDir(t)
	names := []string{"buildkitd", "runc", "sh", "mount", "mkdir", "sleep", "rm"}
	if os.Geteuid() != 0 {
		names = append(names, "rootlesskit", "newuidmap", "newgidmap")
	}
	for _, name := range names {
		if err := os.Symlink(needProgram(t, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// replace replaces a program by a shell script.
func replace(t *testing.T, dir, name, script string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// environ returns an environment with only this directory on its PATH.
func environ(path string) []string {
	return []string{"PATH=" + path, "HOME=" + os.Getenv("HOME")}
}
