package bakefile

import "embed"

//go:embed all:programs/amd64
var programs embed.FS
