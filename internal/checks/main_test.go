// Package checks checks the repository's own files against its rules: which room imports which,
// what the documents say about the source, and what workflows may do.
package checks

import (
	"fmt"
	"os"
	"testing"
)

// TestMain runs the tests in the module's root, whose files they check.
func TestMain(m *testing.M) {
	if err := os.Chdir("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
