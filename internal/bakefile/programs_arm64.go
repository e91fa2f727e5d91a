package bakefile

import "embed"

//go:embed all:programs/arm64
var programs embed.FS
