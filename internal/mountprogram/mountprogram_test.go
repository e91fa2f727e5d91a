package mountprogram

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestFor(t *testing.T) {
	t.Parallel()
	self := filepath.Join(t.TempDir(), "warmlayer")
	if err := os.WriteFile(self, []byte("\x7fELF of warmlayer"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "/v8"} {
		program, err := For("linux/"+runtime.GOARCH+suffix, self)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(program, []byte("\x7fELF")) {
			t.Errorf("%q is no program", program[:min(len(program), 20)])
		}
	}
	for _, platform := range []string{"windows/amd64", "linux/riscv64", "linux", ""} {
		if _, err := For(platform, self); err == nil {
			t.Errorf("there is a program for %q", platform)
		}
	}
}
