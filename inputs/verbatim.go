package inputs

import (
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/warmlayer/warmlayer/internal/syntax"
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
			p.report(input, c.Line, "type "+syntax.Quoted(c.Type)+" is unknown", syntax.DidYouMean(c.Type, verbatimTypes))
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
	case problem != nil && !strings.Contains(c.Attrs["ref"], "/"):
		// A lone word may be a piece of a credential.
		p.report("cache-to", c.Line, "ref is not the name of an image", "write it like ghcr.io/owner/app:cache")
	case problem != nil:
		p.report("cache-to", c.Line, "ref: "+problem.What, problem.Hint)
	case slices.Contains(images, reference.TagNameOnly(named).String()):
		p.report("cache-to", c.Line, "ref "+syntax.Quoted(c.Attrs["ref"])+" is where an image is pushed", "give the cache another tag")
	}
}
