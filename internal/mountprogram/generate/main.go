// Command generate makes the programs that warmlayer sends to builders, in the directory that is its
// argument: LINUX-ARCHITECTURE.zst for each platform.
package main

import (
	"log"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// architectures are those of warmlayer's releases.
var architectures = []string{"amd64", "arm64"}

func main() {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		log.Fatal(err)
	}
	for _, arch := range architectures {
		path := filepath.Join(os.Args[1], "linux-"+arch)
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, "github.com/warmlayer/warmlayer/internal/mountpack/program")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			log.Fatal(err)
		}
		program, err := os.ReadFile(path)
		if err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(path+".zst", encoder.EncodeAll(program, nil), 0o644); err != nil {
			log.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			log.Fatal(err)
		}
	}
}
