//go:build !amd64 && !arm64

package bakefile

import "embed"

// programs has none for this architecture, which is not among those of the releases.
var programs embed.FS
