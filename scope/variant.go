package scope

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// Variant tells the builds of one scope apart that do not replace each other: those of another
// target, with other build arguments or for other platforms. It is 16 hexadecimal digits of a
// SHA-256, from which no value can be read. The order of platforms does not matter, and "" is the
// target that a Dockerfile ends with. A nil map is the same as an empty one.
func Variant(target string, buildArgs map[string]string, platforms []string) string {
	h := sha256.New()
	fmt.Fprintf(h, "target %q\n", target)
	for _, name := range slices.Sorted(maps.Keys(buildArgs)) {
		fmt.Fprintf(h, "argument %q=%x\n", name, sha256.Sum256([]byte(buildArgs[name])))
	}
	for _, p := range slices.Compact(slices.Sorted(slices.Values(platforms))) {
		fmt.Fprintf(h, "platform %q\n", p)
	}
	return hex.EncodeToString(h.Sum(nil))[:hashLength]
}
