package syntax

import "github.com/containerd/platforms"

// Platform returns a platform's usual spelling: "linux/arm64" for linux/aarch64, this
// machine's own for local. It tells whether text is a platform, which is in lower case.
// platforms.Parse takes any architecture beside a system, but only known ones alone, so
// each part is tried alone too.
func Platform(text string) (string, bool) {
	if text == "local" {
		return platforms.Format(platforms.DefaultSpec()), true
	}
	parsed, err := platforms.Parse(text)
	if err != nil {
		return "", false
	}
	system, err := platforms.Parse(parsed.OS)
	if err != nil || system.OS != parsed.OS {
		return "", false
	}
	machine, err := platforms.Parse(parsed.Architecture)
	if err != nil || machine.Architecture != parsed.Architecture {
		return "", false
	}
	return platforms.FormatAll(platforms.Normalize(parsed)), true
}
