package builder_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/builder"
	"github.com/warmlayer/warmlayer/internal/testkit"
)

// foreign is a platform that this machine runs only with an emulator.
func foreign() (platform, qemu string) {
	if runtime.GOARCH == "arm64" {
		return "linux/amd64", "qemu-x86_64-static"
	}
	return "linux/arm64", "qemu-aarch64-static"
}

func needQemu(t *testing.T) (platform string) {
	t.Helper()
	platform, qemu := foreign()
	_, err := exec.LookPath(qemu)
	testkit.Need(t, "qemu", err)
	return platform
}

// mountHandlers makes the machine's registered emulators visible until the test ends.
func mountHandlers(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("binfmt_misc", dir, "binfmt_misc", 0, ""); err != nil {
		t.Skipf("mount binfmt_misc: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// handlersOf are the emulators that the daemons with these private directories have registered.
// Tests of other packages may have registered others.
func handlersOf(t *testing.T, mounted string, daemons []string) []string {
	t.Helper()
	return slices.DeleteFunc(entries(t, mounted), func(name string) bool {
		return !slices.ContainsFunc(daemons, func(d string) bool { return strings.HasPrefix(name, d+"-") })
	})
}

// TestEmulation: with QEMU a managed builder runs programs of another platform, also after a
// restart.
func TestEmulation(t *testing.T) {
	t.Parallel()
	platform := needQemu(t)
	dir := tempDir(t)
	b := open(t, in(dir, builder.Options{Platforms: []string{"linux/" + runtime.GOARCH, platform}}))
	if lacks := b.Lacks([]string{platform}); len(lacks) > 0 {
		t.Fatalf("lacks %v; the daemon says\n%s", lacks, b.Log())
	}
	if err := b.Restart(t.Context()); err != nil {
		t.Error(err)
	}
	daemons := entries(t, dir)
	closeTimely(t, b)
	nothingLeft(t, dir)
	if os.Geteuid() != 0 {
		return // its emulators ended with its user namespace
	}
	if left := handlersOf(t, mountHandlers(t), daemons); len(left) > 0 {
		t.Errorf("the kernel still has %v", left)
	}
}

// TestEmulationShared: when the machine has binfmt_misc mounted, registrations outlive the daemon,
// so each daemon must remove its own.
func TestEmulationShared(t *testing.T) {
	t.Parallel()
	platform := needQemu(t)
	if os.Geteuid() != 0 {
		t.Skip("only root shares the machine's emulators")
	}
	mounted, dir := mountHandlers(t), tempDir(t)
	if others := slices.DeleteFunc(entries(t, mounted), func(name string) bool {
		return name == "register" || name == "status" || strings.HasPrefix(name, "warmlayer-")
	}); len(others) > 0 {
		t.Skipf("this machine has its own emulators: %v", others)
	}
	first := open(t, in(dir, builder.Options{Platforms: []string{platform}}))
	second := open(t, in(dir, builder.Options{Platforms: []string{platform}}))
	daemons := entries(t, dir)
	for _, test := range []struct {
		closes *builder.Builder
		left   int
	}{{nil, 2}, {first, 1}, {second, 0}} {
		if test.closes != nil {
			closeTimely(t, test.closes)
		}
		if got := handlersOf(t, mounted, daemons); len(got) != test.left {
			t.Errorf("the registered emulators are %v, want %d", got, test.left)
		}
	}
	nothingLeft(t, dir)
}

// TestEmulationAfterCrash: the next process removes the emulators that a killed process has
// registered.
func TestEmulationAfterCrash(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root shares the machine's emulators")
	}
	platform := needQemu(t)
	mounted, dir := mountHandlers(t), tempDir(t)
	lock := filepath.Join(dir, "warmlayer-stale", "lock")
	if err := os.MkdirAll(filepath.Join(filepath.Dir(lock), "binfmt"), 0o700); err != nil {
		t.Fatal(err)
	}
	testkit.Write(t, lock, "")
	const rule = `:warmlayer-stale-test:E::warmlayer-test::/bin/true:F`
	if err := os.WriteFile(filepath.Join(mounted, "register"), []byte(rule), 0); err != nil {
		t.Fatal(err)
	}
	b := open(t, in(dir, builder.Options{Platforms: []string{platform}}))
	if left := handlersOf(t, mounted, []string{"warmlayer-stale"}); len(left) > 0 {
		t.Errorf("the registered emulators are %v", left)
	}
	closeTimely(t, b)
}

// TestNoEmulator: the error for a platform without an emulator names it, and has a hint.
func TestNoEmulator(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	b := open(t, in(dir, builder.Options{Environ: environ(programs(t)), Platforms: []string{"linux/s390x"}}))
	lacks := b.Lacks([]string{"linux/s390x", "linux/" + runtime.GOARCH, "linux/s390x"})
	if !slices.Equal(lacks, []string{"linux/s390x"}) {
		t.Fatalf("lacks %v", lacks)
	}
	const want = "builder: the builder has no emulator to run steps on linux/s390x\n" +
		"hint: install emulators (docker/setup-qemu-action on GitHub, or apt-get install qemu-user-static), " +
		"or run such steps on the builder's own platform with FROM --platform=$BUILDPLATFORM"
	if got := b.NoEmulator(lacks).Error(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// shell is a /bin/sh that writes the platform on which it runs, and the platform of a child
// process.
const shell = `package main

import (
	"os"
	"os/exec"
	"runtime"
)

func main() {
	text := runtime.GOARCH
	if len(os.Args) > 1 && os.Args[1] == "-c" {
		child, err := exec.Command("/bin/sh", "child").Output()
		if err != nil {
			panic(err)
		}
		if err := os.WriteFile("/runs-on", []byte(text+" "+string(child)), 0o644); err != nil {
			panic(err)
		}
		return
	}
	os.Stdout.WriteString(text)
}
`

// TestPlatformsByEmulation: one build for two platforms runs its step on both.
func TestPlatformsByEmulation(t *testing.T) {
	t.Parallel()
	platform := needQemu(t)
	if os.Geteuid() != 0 {
		t.Skip("the program is built by root")
	}
	app := testkit.App(t)
	var platforms []string
	for _, p := range []string{"linux/" + runtime.GOARCH, platform} {
		arch := strings.TrimPrefix(p, "linux/")
		platforms = append(platforms, p)
		testkit.Write(t, filepath.Join(app, "main.go"), shell)
		compile := exec.Command("go", "build", "-o", "sh-"+arch, "main.go")
		compile.Dir, compile.Env = app, append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
		if out, err := compile.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	testkit.Write(t, filepath.Join(app, "Dockerfile"), "FROM scratch AS run\nARG TARGETARCH\nCOPY sh-$TARGETARCH /bin/sh\nRUN it\nFROM scratch\nCOPY --from=run /runs-on /\n")
	out := filepath.Join(t.TempDir(), "out")
	build := testkit.Invocation{Dir: app, Branch: "main", Args: []string{
		"--platforms", strings.Join(platforms, ","), "--outputs", "type=local,dest=" + out, "--cache", "none",
	}}
	build.Build(t)
	for _, p := range platforms {
		arch := strings.TrimPrefix(p, "linux/")
		text, err := os.ReadFile(filepath.Join(out, "linux_"+arch, "runs-on"))
		if err != nil || string(text) != arch+" "+arch {
			t.Errorf("on %s the step ran on %q, %v", p, text, err)
		}
	}
	t.Run("without QEMU", func(t *testing.T) {
		build.Env = map[string]string{"PATH": programs(t)}
		// Emulators are the machine's: another test may have registered the one of platform meanwhile.
		build.Args[1] = "linux/" + runtime.GOARCH + ",linux/riscv64,linux/s390x"
		failed := build.Start(t)
		if failed.Code != 1 || len(failed.Report.Steps) > 0 || !strings.Contains(failed.Report.Error, "the builder has no emulator to run steps on linux/riscv64 and linux/s390x") ||
			!strings.Contains(failed.Text, "hint: install emulators") {
			t.Errorf("exit code %d:\n%s", failed.Code, failed.Text)
		}
	})
}
