// Package mountprogram has the program that saves and restores cache mounts in the builder, for the
// platforms of builders. It is small, so that sending it takes no time: 3.4 MB, instead of warmlayer's own
// 44 MB.
//
// The programs are made by go generate, as make, the image and the releases do. A warmlayer that was built
// without them sends itself, to a builder of its own platform.
//
//	program, err := mountprogram.For("linux/amd64", self) // self is the path of the running warmlayer
//	args := []string{"/program", mountpack.Command, "restore", "/mount"}
package mountprogram

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/warmlayer/warmlayer/internal/packed"
)

//go:generate go run ../packed/generate ../mountpack/program programs/linux-*.zst amd64 arm64

//go:embed all:programs
var programs embed.FS

// For is the program for a platform such as linux/amd64 or linux/arm64/v8: an executable that needs no
// other file. Its arguments are mountpack.Command and what mountpack.Serve takes. self is the path of the
// running warmlayer, which takes the same arguments; "" without one.
func For(platform, self string) ([]byte, error) {
	parts := strings.Split(platform, "/")
	if len(parts) < 2 || parts[0] != "linux" {
		return nil, fmt.Errorf("cache mounts of a builder for %s cannot be saved: it is not Linux", platform)
	}
	name := strings.Join(parts[:2], "-") + ".zst"
	program, err := packed.Read(programs, "programs/"+name)
	switch {
	case err == nil:
		return program, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case parts[1] == runtime.GOARCH && runtime.GOOS == "linux" && self != "":
		return os.ReadFile(self)
	default:
		return nil, fmt.Errorf("cache mounts of a builder for %s cannot be saved: this warmlayer was built without the program for it; use a released one, or run go generate ./internal/mountprogram before go build", platform)
	}
}
