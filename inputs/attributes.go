package inputs

import (
	"slices"
	"strconv"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/syntax"
)

// compressionAttributes say how an image's layers are written
// (util/compression/attrs.go in BuildKit v0.34.2).
var compressionAttributes = []Field{
	{Name: "compression", Choices: cachespec.Compressions},
	{Name: "compression-level", Kind: syntax.Int},
	{Name: "force-compression", Kind: syntax.Bool},
	{Name: "oci-mediatypes", Kind: syntax.Bool},
}

// Attributes of the exporters of BuildKit v0.34.2: exporter/containerimage
// (opts.go, export.go), exporter/oci and exporter/local (fs.go), which ignore unknown ones.
var (
	resultAttributes = []Field{{Name: "dest"}, {Name: "source-date-epoch", Kind: syntax.Int}}
	layerAttributes  = slices.Concat(resultAttributes, compressionAttributes, []Field{
		{Name: "name"},
		{Name: "oci-artifact", Kind: syntax.Bool},
		{Name: "attestation-inline", Kind: syntax.Bool},
		{Name: "prefer-nondist-layers", Kind: syntax.Bool},
		{Name: "rewrite-timestamp", Kind: syntax.Bool},
	})
	imageAttributes = slices.Concat(layerAttributes, []Field{
		{Name: "push", Kind: syntax.Bool},
		{Name: "push-by-digest", Kind: syntax.Bool},
		{Name: "registry.insecure", Kind: syntax.Bool},
		{Name: "unpack", Kind: syntax.Bool},
		{Name: "store", Kind: syntax.Bool},
		{Name: "dangling-name-prefix"},
		{Name: "danging-name-empty-only", Kind: syntax.Bool}, // BuildKit's spelling
		{Name: "name-canonical", Kind: syntax.Bool},
	})
	archiveAttributes = slices.Concat(layerAttributes, []Field{{Name: "tar", Kind: syntax.Bool}})
	filesAttributes   = slices.Concat(resultAttributes, []Field{{Name: "src"}, {Name: "attestation-prefix"}, {Name: "platform-split", Kind: syntax.Bool}})
	outputAttributes  = map[string][]Field{
		"image":     imageAttributes,
		"registry":  imageAttributes,
		"oci":       archiveAttributes,
		"docker":    archiveAttributes,
		"local":     slices.Concat(filesAttributes, []Field{{Name: "mode", Choices: []string{"copy", "delete"}}}),
		"tar":       filesAttributes,
		"cacheonly": nil, // buildx's: no output, also where one is the default
	}
	outputTypes = []string{"image", "registry", "local", "oci", "docker", "tar", "cacheonly"}
)

// attribute checks one attribute of an entry against those that its type knows.
func (p *parser) attribute(input string, line int, known []Field, key, value string) {
	at := slices.IndexFunc(known, func(f Field) bool { return f.Name == key })
	if at < 0 {
		var all []string
		for _, f := range known {
			all = append(all, f.Name)
		}
		p.report(input, line, syntax.AttributeName(key)+" is unknown", syntax.NearestHint(key, all))
		return
	}
	f := known[at]
	if _, err := strconv.ParseBool(value); f.Kind == syntax.Bool && err == nil {
		return // 1, t and the like too
	}
	if _, problem := f.Check(value); problem != nil {
		p.report(input, line, f.Name+": "+problem.What, problem.Hint)
	}
}

// compression checks what BuildKit refuses after the whole build, or never.
func (p *parser) compression(input string, line int, attrs map[string]string) {
	e := cachespec.Export{Compression: attrs["compression"], CompressionLevel: attrs["compression-level"], OCIMediaTypes: attrs["oci-mediatypes"]}
	for _, problem := range e.Conflicts() {
		p.report(input, line, problem.What, problem.Hint)
	}
	if syntax.IsFalse(e.OCIMediaTypes) && syntax.IsTrue(attrs["oci-artifact"]) {
		p.report(input, line, "oci-artifact needs OCI media types", "remove oci-mediatypes")
	}
}
