package cachespec

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// Compressions are the layer compressions that BuildKit v0.34.2 writes (util/compression).
var Compressions = []string{"gzip", "estargz", "zstd", "uncompressed"}

// levels are the highest levels of each compression (util/compression; the numbers are zlib's
// and zstd's). BuildKit ignores the level of uncompressed layers.
var levels = map[string]int{"gzip": 9, "estargz": 9, "zstd": HighestLevel, "uncompressed": HighestLevel}

// HighestLevel is the highest level of any compression.
const HighestLevel = 22

// Export says how the layers and the manifest of a cache or an image are written. Each field
// is the text of BuildKit's attribute, or "" where it is not given (v0.34.2,
// util/compression/attrs.go, cache/remotecache/registry, exporter/containerimage).
type Export struct {
	Mode             string // min or max
	Compression      string // one of Compressions
	CompressionLevel string // a whole number from 0 to HighestLevel
	ForceCompression string // a boolean, as strconv.ParseBool reads it; and so the next ones
	OCIMediaTypes    string
	ImageManifest    string
}

// exportDefaults hold unless a line or an input says otherwise. Cold layers decompress
// faster from zstd than from gzip, and take less room; BuildKit's own default is gzip with
// mode=min.
var exportDefaults = Export{Mode: "max", Compression: "zstd", OCIMediaTypes: "true", ImageManifest: "true"}

func isLevel(v string) (string, bool) {
	n, err := strconv.Atoi(v)
	return fmt.Sprintf("a whole number from 0 to %d", HighestLevel), err == nil && n >= 0 && n <= HighestLevel
}

// Attrs holds the fields that are set, by BuildKit's names. The map is fresh.
func (e Export) Attrs() map[string]string {
	attrs := map[string]string{}
	for name, value := range map[string]string{
		"mode": e.Mode, "compression": e.Compression, "compression-level": e.CompressionLevel,
		"force-compression": e.ForceCompression, "oci-mediatypes": e.OCIMediaTypes, "image-manifest": e.ImageManifest,
	} {
		if value != "" {
			attrs[name] = value
		}
	}
	return attrs
}

// over is e with the fields of other where e has none.
func (e Export) over(other Export) Export {
	return Export{
		Mode: cmp.Or(e.Mode, other.Mode), Compression: cmp.Or(e.Compression, other.Compression),
		CompressionLevel: cmp.Or(e.CompressionLevel, other.CompressionLevel), ForceCompression: cmp.Or(e.ForceCompression, other.ForceCompression),
		OCIMediaTypes: cmp.Or(e.OCIMediaTypes, other.OCIMediaTypes), ImageManifest: cmp.Or(e.ImageManifest, other.ImageManifest),
	}
}

// withDefaults is e with the defaults. Docker media types allow only gzip, and no image
// manifest; BuildKit's own defaults follow this too.
func (e Export) withDefaults() Export {
	defaults := exportDefaults
	if syntax.IsFalse(e.OCIMediaTypes) {
		defaults.Compression, defaults.ImageManifest = "gzip", "false"
	}
	return e.over(defaults)
}

// Conflicts are the settings that BuildKit refuses only after the whole build
// (ImageCommitOpts.Validate in exporter/containerimage/opts.go; for caches
// cache/remotecache/export.go), or silently ignores. The problems have no input.
func (e Export) Conflicts() []syntax.Problem {
	var found []syntax.Problem
	docker, compression := syntax.IsFalse(e.OCIMediaTypes), cmp.Or(e.Compression, "gzip")
	if docker && syntax.IsTrue(e.ImageManifest) {
		found = append(found, syntax.Problem{What: "image-manifest=true needs oci-mediatypes=true", Hint: "leave out one of them, or set image-manifest=false"})
	}
	if docker && (compression == "zstd" || compression == "estargz") {
		found = append(found, syntax.Problem{What: "compression=" + compression + " needs oci-mediatypes=true", Hint: "use compression=gzip, or oci-mediatypes=true"})
	}
	level, err := strconv.Atoi(e.CompressionLevel)
	if highest, known := levels[compression]; known && err == nil && level > highest {
		found = append(found, syntax.Problem{
			What: fmt.Sprintf("compression-level=%d is out of range for %s", level, compression),
			Hint: fmt.Sprintf("%s goes from 0 to %d", compression, highest),
		})
	}
	return found
}
