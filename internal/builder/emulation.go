package builder

import (
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// binfmtDir is where binfmt_misc is mounted in the private directory.
const binfmtDir = "binfmt"

// architecture is how the kernel and QEMU recognise programs of one of BuildKit's architectures.
type architecture struct {
	qemu    string // in qemu-<name>-static
	machine uint16 // e_machine of ELF (linux/elf-em.h)
	bits    byte   // 32 or 64
	big     bool   // big-endian
}

// architectures are those that BuildKit detects (v0.34.2, util/archutil).
var architectures = map[string]architecture{
	"amd64": {"x86_64", 62, 64, false}, "386": {"i386", 3, 32, false},
	"arm64": {"aarch64", 183, 64, false}, "arm": {"arm", 40, 32, false},
	"riscv64": {"riscv64", 243, 64, false}, "loong64": {"loongarch64", 258, 64, false},
	"ppc64le": {"ppc64le", 21, 64, false}, "ppc64": {"ppc64", 21, 64, true}, "s390x": {"s390x", 22, 64, true},
	"mips64le": {"mips64el", 8, 64, false}, "mips64": {"mips64", 8, 64, true},
}

// magic is the start of an ELF program of the architecture, and the mask of the bits that are
// compared: any ABI, and any program, position-independent or not.
func (a architecture) magic() (magic, mask [20]byte) {
	copy(magic[:], "\x7fELF\x01\x01\x01")
	for i := range mask {
		mask[i] = 0xff
	}
	mask[7] = 0
	if a.bits == 64 {
		magic[4] = 2
	}
	low, high := 0, 1
	if a.big {
		magic[5], low, high = 2, 1, 0
	}
	magic[16+low], mask[16+low] = 2, 0xfe
	magic[18+low], magic[18+high] = byte(a.machine), byte(a.machine>>8)
	return magic, mask
}

// native tells whether this machine may run programs of the architecture without an emulator.
// BuildKit detects whether it really can.
func native(arch string) bool {
	also := map[string]string{"amd64": "386", "arm64": "arm"}
	return arch == runtime.GOARCH || arch == also[runtime.GOARCH]
}

// findEmulators returns QEMU's program for each architecture among the platforms that is not
// native. It is empty when one is missing: the mount of a daemon in a user namespace would hide
// the emulators that the system has.
func findEmulators(path string, wanted []string) map[string]string {
	found := map[string]string{}
	for _, text := range wanted {
		p := platforms.MustParse(text)
		a, known := architectures[p.Architecture]
		if !known || p.OS != "linux" || native(p.Architecture) {
			continue
		}
		program := lookPath(path, "qemu-"+a.qemu+"-static", "qemu-"+a.qemu)
		if program == "" {
			return nil
		}
		found[p.Architecture] = program
	}
	return found
}

// registration is a script that registers emulators with the kernel (Linux,
// Documentation/admin-guide/binfmt-misc.rst) before the daemon detects what it can run. It runs
// in the daemon's mount namespace. On Linux 6.7 and later a mount in a user namespace is
// private to that namespace, and the kernel drops the emulators with it. In all other cases
// [unregister] removes them.
//
// With flag F the kernel opens the emulator now, so that containers do not need it; with C a
// program such as sudo keeps its rights. An emulator that is registered already is used. The
// script continues after an error: it shows in the daemon's log, and in the platforms that the
// daemon then has.
func (d *processDaemon) registration(emulators map[string]string) string {
	at := quoted(d.dir.join(binfmtDir))
	var b strings.Builder
	fmt.Fprintf(&b, findRegistered, at, at)
	for _, arch := range slices.Sorted(maps.Keys(emulators)) {
		magic, mask := architectures[arch].magic()
		rule := fmt.Sprintf(":%s:M::%s:%s:%s:CF", d.dir.handler(arch), escaped(magic), escaped(mask), emulators[arch])
		fmt.Fprintf(&b, "registered %s || printf %%s %s > %s/register\n", hex.EncodeToString(magic[:]), quoted(rule), at)
	}
	b.WriteString("fi\n")
	return b.String()
}

// findRegistered looks for an emulator of the system. One of another managed builder is removed
// with that builder.
const findRegistered = `if mount -t binfmt_misc binfmt_misc %s; then
registered() {
	for handler in %s/*; do
		case ${handler##*/} in
		warmlayer-*) ;;
		*) grep -qsx "magic $1" "$handler" && return ;;
		esac
	done
	return 1
}
`

// handler is the name under which an emulator is registered.
func (d *directory) handler(arch string) string { return filepath.Base(d.path) + "-" + arch }

// quoted is a word of a shell script.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// escaped are bytes as the kernel reads them in a rule: \x7f.
func escaped(bytes [20]byte) string {
	var b strings.Builder
	for _, c := range bytes {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String()
}

// unregister removes the emulators of a directory's daemon from the kernel if it still has them
// and this process is root. It mounts binfmt_misc in a namespace that ends with it.
func unregister(dir *directory) {
	if os.Geteuid() != 0 {
		return
	}
	done := make(chan struct{})
	go func() {
		defer crash.Catch()
		defer close(done)
		// The thread stays locked: the runtime ends it, and with it the namespace.
		runtime.LockOSThread()
		at := dir.join(binfmtDir)
		if unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS) != nil ||
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") != nil ||
			unix.Mount("binfmt_misc", at, "binfmt_misc", 0, "") != nil {
			return
		}
		// The runtime does not end the process's first thread, so the mount is removed here.
		defer unix.Unmount(at, unix.MNT_DETACH) //nolint:errcheck // it ends with the namespace
		left, _ := filepath.Glob(filepath.Join(at, dir.handler("*")))
		for _, handler := range left {
			_ = os.WriteFile(handler, []byte("-1"), 0)
		}
	}()
	<-done
}

// Lacks are the wanted platforms whose programs the builder cannot run.
func (b *Builder) Lacks(wanted []string) []string {
	var lacks []string
	for _, text := range wanted {
		p := platforms.MustParse(text)
		runs := slices.ContainsFunc(b.Platforms, func(has ocispecs.Platform) bool {
			return has.OS == p.OS && has.Architecture == p.Architecture
		})
		if !runs && !slices.Contains(lacks, text) {
			lacks = append(lacks, text)
		}
	}
	return lacks
}

// NoEmulator is the error for steps on platforms that the builder lacks.
func (b *Builder) NoEmulator(lacks []string) *Error {
	hint := "install emulators on the machine of the builder: docker/setup-qemu-action on GitHub, or apt-get install qemu-user-static binfmt-support"
	if b.Managed {
		hint = "install emulators (docker/setup-qemu-action on GitHub, or apt-get install qemu-user-static), " +
			"or run such steps on the builder's own platform with FROM --platform=$BUILDPLATFORM"
	}
	return &Error{What: "the builder has no emulator to run steps on " + strings.Join(lacks, " and "), Hint: hint}
}
