// Package checks holds the repository's own files to the rules that it has set itself: who
// imports whom, what the documents say of the source, what workflows may do.
package checks

import (
	"fmt"
	"os"
	"testing"
)

// TestMain runs the tests in the module's root, whose files they are about.
func TestMain(m *testing.M) {
	if err := os.Chdir("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
