package syntax

import "github.com/containerd/platforms"

// Platform returns a platform in its usual spelling, "linux/arm64" for linux/aarch64, and whether
// text is a known platform in lower case. The platform "local" is that of this machine.
//
// platforms.Parse accepts any architecture after a system, but only known names where one stands
// alone, so each part is parsed alone too.
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
