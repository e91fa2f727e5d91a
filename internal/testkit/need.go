package testkit

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Need goes on when err is nil. Otherwise the part that a test needs is missing from
// this machine: the test fails when WARMLAYER_REQUIRE, a comma-separated list, names
// the part ("buildkitd", "rootless", "s3"), and is skipped when it does not.
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
