// Command generate makes a program that warmlayer contains, for Linux and each architecture, compressed:
//
//	generate PACKAGE OUTPUT ARCHITECTURE...
//
// PACKAGE is the directory of the program, which may be a module of its own. In OUTPUT a * stands for the
// architecture: programs/linux-*.zst.
package main

import (
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: generate PACKAGE OUTPUT ARCHITECTURE...")
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "generate")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, arch := range os.Args[3:] {
		output := strings.ReplaceAll(os.Args[2], "*", arch)
		program, err := compile(os.Args[1], filepath.Join(dir, "program"), arch)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(output), 0o755)
		}
		if err == nil {
			err = os.WriteFile(output, encoder.EncodeAll(program, nil), 0o644)
		}
		if err != nil {
			log.Panic(err)
		}
	}
}

// compile builds a program, and returns its content.
func compile(pkg, output, arch string) ([]byte, error) {
	build := exec.Command("go", "build", "-C", pkg, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", output, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(output)
}
