package testkit

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Soak tells whether the long forms of tests are asked for, as make soak does.
func Soak() bool { return os.Getenv("WARMLAYER_SOAK") != "" }

// Long is a size of a test: the first one, or the second in its long form.
func Long(short, soak int) int {
	if Soak() {
		return soak
	}
	return short
}

// Seed is a random seed, which the test logs. WARMLAYER_SEED repeats one.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("WARMLAYER_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("WARMLAYER_SEED=%d", seed)
	return seed
}
