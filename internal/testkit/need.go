package testkit

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Need returns when err is nil. Any other error says that a program or a server that the test
// needs, the part, is missing from this machine. The test then fails when WARMLAYER_REQUIRE, a
// comma-separated list, has the part ("buildkitd", "rootless", "s3"), and is skipped otherwise.
func Need(t testing.TB, part string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("WARMLAYER_REQUIRE"), ","), part) {
		t.Fatalf("WARMLAYER_REQUIRE names %s: %v", part, err)
	}
	t.Skipf("needs %s: %v", part, err)
}
