package main

// giveBack makes a cache's manifest and config a part of the answer to an export to a registry with the attribute give-back=true,
// in place of sending them there. The client unites them with what its scope keeps, and writes the result: otherwise it reads
// back what BuildKit has just sent (internal/cacheplan, Given). A config that is larger than what BuildKit imports is sent.
var giveBack = []change{{
	module: buildkit,
	file:   "cache/remotecache/export.go",
	edits: []edit{
		{`	comp          compression.Config
}
`, `	comp          compression.Config
	giveBack      bool
}

// maxGivenBack is the largest config that is given back, in bytes.
const maxGivenBack = 1 << 20

// GiveBack makes an exporter give the manifest and the config to its client in place of writing them. It is a change
// by the warmlayer project.
func GiveBack(e Exporter) Exporter {
	if ce, ok := e.(*contentCacheExporter); ok {
		ce.giveBack = true
	}
	return e
}
`},
		{`	configDone := progress.OneOff(ctx, fmt.Sprintf("writing config %s", dgst))
	if err := content`, `	giveBack := ce.giveBack && len(dt) <= maxGivenBack
	configDone := progress.OneOff(ctx, fmt.Sprintf("writing config %s", dgst))
	if giveBack {
		res["cache.config"] = string(dt)
	} else if err := content`},
		{`	mfstDone := progress.OneOff(ctx, mfstLog)
	if err := content`, `	mfstDone := progress.OneOff(ctx, mfstLog)
	if giveBack {
		res["cache.manifest.content"] = string(dt)
	} else if err := content`},
	},
}, {
	module: buildkit,
	file:   "cache/remotecache/registry/registry.go",
	edits: []edit{{`		return &exporter{remotecache.NewExporter(contentutil.FromPusher(pusher), refString, ociMediatypes, imageManifest, compressionConfig)}, nil
`, `		made := remotecache.NewExporter(contentutil.FromPusher(pusher), refString, ociMediatypes, imageManifest, compressionConfig)
		if attrs["give-back"] == "true" { // a change by the warmlayer project
			made = remotecache.GiveBack(made)
		}
		return &exporter{made}, nil
`}},
}}
