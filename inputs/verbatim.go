package inputs

import (
	"slices"

	"github.com/distribution/reference"
)

// Attributes that the caches of BuildKit v0.33.1 read (control/control.go,
// client/solve.go, util/compression/attrs.go and cache/remotecache). It takes unknown
// ones without a word, and some values that it does not understand as unset. What
// only an import or only an export reads may stand in both: BuildKit ignores it there.
var (
	cacheAttributes = []Field{
		{Name: "mode", Choices: []string{"min", "max"}},
		{Name: "ignore-error", Kind: Bool},
	}
	cacheLayerAttributes = append(slices.Clone(cacheAttributes), []Field{
		{Name: "compression", Choices: Compressions},
		{Name: "compression-level", Kind: Int},
		{Name: "force-compression", Kind: Bool},
		{Name: "oci-mediatypes", Kind: Bool},
		{Name: "image-manifest", Kind: Bool},
	}...)
	objectAttributes = append(slices.Clone(cacheAttributes), []Field{
		{Name: "name"}, {Name: "prefix"}, {Name: "manifests_prefix"}, {Name: "blobs_prefix"}, {Name: "secret_access_key"},
	}...)
	verbatimAttributes = map[string][]Field{
		"registry": append(slices.Clone(cacheLayerAttributes), Field{Name: "ref"}, Field{Name: "registry.insecure", Kind: Bool}),
		"local": append(slices.Clone(cacheLayerAttributes),
			Field{Name: "src"}, Field{Name: "dest"}, Field{Name: "tag"}, Field{Name: "digest"}, Field{Name: "reset", Kind: Bool}),
		"inline": {{Name: "mode", Choices: []string{"min"}}, {Name: "ignore-error", Kind: Bool}},
		"gha": append(slices.Clone(cacheAttributes), []Field{
			{Name: "scope"}, {Name: "timeout", Kind: Duration}, {Name: "token"}, {Name: "url"}, {Name: "url_v2"},
			{Name: "version", Choices: []string{"1", "2"}}, {Name: "repository"}, {Name: "ghtoken"},
		}...),
		"s3": append(slices.Clone(objectAttributes), []Field{
			{Name: "bucket"}, {Name: "region"}, {Name: "endpoint_url"}, {Name: "use_path_style", Kind: Bool},
			{Name: "access_key_id"}, {Name: "session_token"}, {Name: "touch_refresh", Kind: Duration},
			{Name: "upload_parallelism", Kind: Int}, {Name: "disable_accept_encoding", Kind: Bool},
			{Name: "retry_mode", Choices: []string{"standard", "adaptive"}}, {Name: "retry_max_attempts", Kind: Int},
		}...),
		"azblob": append(slices.Clone(objectAttributes), Field{Name: "account_url"}, Field{Name: "account_name"}, Field{Name: "container"}),
	}
	verbatimTypes = []string{"registry", "local", "gha", "s3", "azblob", "inline"}
)

// verbatim reads cache-from or cache-to. The entries stay as they are; what is wrong
// with them is reported here, since BuildKit would say it late or never. Images are
// those that are pushed.
func (p *parser) verbatim(input string, images []string) []Cache {
	caches := p.entries(input)
	for _, c := range caches {
		known, ok := verbatimAttributes[c.Type]
		switch {
		case !ok:
			p.report(input, c.Line, "type "+quoted(c.Type)+" is unknown", didYouMean(c.Type, verbatimTypes))
			continue
		case c.Type == "inline" && input == "cache-from":
			p.report(input, c.Line, "type inline is read as the image that holds it", "write type=registry,ref= and the image")
			continue
		}
		for _, key := range sortedKeys(c.Attrs) {
			p.attribute(input, c.Line, known, key, c.Attrs[key])
		}
		p.compression(input, c.Line, c.Attrs)
		p.verbatimPlace(input, c, images)
	}
	return caches
}

// verbatimPlace checks where a cache is.
func (p *parser) verbatimPlace(input string, c Cache, images []string) {
	place := map[string]string{"registry": "ref", "local": "src"}[c.Type]
	if c.Type == "local" && input == "cache-to" {
		place = "dest"
	}
	switch {
	case place == "":
	case c.Attrs[place] == "":
		p.report(input, c.Line, place+" is missing", "add "+place+"= and its value")
	case place == "ref" && input == "cache-to":
		p.verbatimRef(c, images)
	}
}

// verbatimRef checks the name under which a cache is written to a registry.
func (p *parser) verbatimRef(c Cache, images []string) {
	named, problem := imageName(c.Attrs["ref"])
	switch {
	case problem != nil:
		p.report("cache-to", c.Line, "ref: "+problem.What, problem.Hint)
	case slices.Contains(images, reference.TagNameOnly(named).String()):
		p.report("cache-to", c.Line, "ref "+quoted(c.Attrs["ref"])+" is where an image is pushed", "give the cache another tag")
	}
}
