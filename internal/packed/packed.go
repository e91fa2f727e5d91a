// Package packed reads the programs that warmlayer contains, compressed, for other processes. The command
// internal/packed/generate makes them.
//
//	program, err := packed.Read(programs, "programs/linux-amd64.zst") // programs is an embed.FS
//	if errors.Is(err, fs.ErrNotExist) {
//		// warmlayer was built without it
//	}
package packed

import (
	"io/fs"

	"github.com/klauspost/compress/zstd"
)

// Read is the program in a file that was compressed with zstd.
func Read(from fs.FS, name string) ([]byte, error) {
	compressed, err := fs.ReadFile(from, name)
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	return decoder.DecodeAll(compressed, nil)
}
