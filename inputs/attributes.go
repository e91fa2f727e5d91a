package inputs

import (
	"slices"
	"strconv"

	"github.com/warmlayer/warmlayer/internal/syntax"
)

// compressionAttributes say how layers are written, in an image or a cache
// (util/compression/attrs.go in BuildKit v0.33.1).
var compressionAttributes = []Field{
	{Name: "compression", Choices: Compressions},
	{Name: "compression-level", Kind: syntax.Int},
	{Name: "force-compression", Kind: syntax.Bool},
	{Name: "oci-mediatypes", Kind: syntax.Bool},
}

// Attributes of the exporters of BuildKit v0.33.1: exporter/containerimage
// (opts.go, export.go), exporter/oci and exporter/local (fs.go). They take unknown
// ones without a word.
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
	filesAttributes   = slices.Concat(resultAttributes, []Field{{Name: "attestation-prefix"}, {Name: "platform-split", Kind: syntax.Bool}})
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

// Attributes that the caches of BuildKit v0.33.1 read (control/control.go,
// client/solve.go, util/compression/attrs.go and cache/remotecache). It takes unknown
// ones without a word, and some values that it does not understand as unset. What
// only an import or only an export reads may stand in both: BuildKit ignores it there.
var (
	cacheAttributes = []Field{
		{Name: "mode", Choices: []string{"min", "max"}},
		{Name: "ignore-error", Kind: syntax.Bool},
	}
	cacheLayerAttributes = slices.Concat(cacheAttributes, compressionAttributes, []Field{{Name: "image-manifest", Kind: syntax.Bool}})
	objectAttributes     = slices.Concat(cacheAttributes, []Field{
		{Name: "name"}, {Name: "prefix"}, {Name: "manifests_prefix"}, {Name: "blobs_prefix"}, {Name: "secret_access_key"},
	})
	verbatimAttributes = map[string][]Field{
		"registry": slices.Concat(cacheLayerAttributes, []Field{{Name: "ref"}, {Name: "registry.insecure", Kind: syntax.Bool}}),
		"local": slices.Concat(cacheLayerAttributes, []Field{
			{Name: "src"}, {Name: "dest"}, {Name: "tag"}, {Name: "digest"}, {Name: "reset", Kind: syntax.Bool},
		}),
		"inline": {{Name: "mode", Choices: []string{"min"}}, {Name: "ignore-error", Kind: syntax.Bool}},
		"gha": slices.Concat(cacheAttributes, []Field{
			{Name: "scope"}, {Name: "timeout", Kind: syntax.Duration}, {Name: "token"}, {Name: "url"}, {Name: "url_v2"},
			{Name: "version", Choices: []string{"1", "2"}}, {Name: "repository"}, {Name: "ghtoken"},
		}),
		"s3": slices.Concat(objectAttributes, []Field{
			{Name: "bucket"}, {Name: "region"}, {Name: "endpoint_url"}, {Name: "use_path_style", Kind: syntax.Bool},
			{Name: "access_key_id"}, {Name: "session_token"}, {Name: "touch_refresh", Kind: syntax.Duration},
			{Name: "upload_parallelism", Kind: syntax.Int}, {Name: "disable_accept_encoding", Kind: syntax.Bool},
			{Name: "retry_mode", Choices: []string{"standard", "adaptive"}}, {Name: "retry_max_attempts", Kind: syntax.Int},
		}),
		"azblob": slices.Concat(objectAttributes, []Field{{Name: "account_url"}, {Name: "account_name"}, {Name: "container"}}),
	}
	verbatimTypes = []string{"registry", "local", "gha", "s3", "azblob", "inline"}
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
	if _, problem := f.check(value); problem != nil {
		p.report(input, line, f.Name+": "+problem.What, problem.Hint)
	}
}

// compression checks what BuildKit refuses only after the whole build
// (ImageCommitOpts.Validate in exporter/containerimage/opts.go; for caches
// cache/remotecache/export.go), or not at all.
func (p *parser) compression(input string, line int, attrs map[string]string) {
	kind := attrs["compression"]
	docker := attrs["oci-mediatypes"] != "" && !syntax.IsTrue(attrs["oci-mediatypes"])
	if docker && (kind == "zstd" || kind == "estargz") {
		p.report(input, line, "compression "+kind+" needs OCI media types", "remove oci-mediatypes")
	}
	if docker && syntax.IsTrue(attrs["oci-artifact"]) {
		p.report(input, line, "oci-artifact needs OCI media types", "remove oci-mediatypes")
	}
	if docker && syntax.IsTrue(attrs["image-manifest"]) {
		p.report(input, line, "image-manifest needs OCI media types", "remove oci-mediatypes")
	}
	highest := 9
	if kind == "zstd" {
		highest = highestLevel
	}
	if level, err := strconv.Atoi(attrs["compression-level"]); err == nil && level > highest {
		p.report(input, line, "compression-level is more than "+strconv.Itoa(highest), "")
	}
}
