package testkit

import "os"

// Soak tells whether the long forms of tests are asked for, as make soak does.
func Soak() bool { return os.Getenv("WARMLAYER_SOAK") != "" }

// Long is a size of a test: the first one, or the second in its long form.
func Long(short, soak int) int {
	if Soak() {
		return soak
	}
	return short
}
