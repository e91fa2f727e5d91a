package main

import (
	"os"
	"testing"
)

// A character device that is no terminal, such as the standard input of a cron job, is none.
func TestIsTerminal(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{"/dev/ptmx": true, "/dev/null": false, "go.mod": false} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := isTerminal(f); got != want {
			t.Errorf("%s is a terminal: %t, want %t", path, got, want)
		}
	}
}
