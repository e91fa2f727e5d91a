// Package e2e runs the program as its users do: from a shell, and in the runners of CIs.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write what the program says into testdata/script")

// TestMain runs the tests in the module's root, whose files they are about.
func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
