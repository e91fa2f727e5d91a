package backends

import (
	"maps"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/scope"
)

// objectCache is the part that backends on object stores share: everything but their
// attributes and their service.
type objectCache struct {
	cachespec.Config
	name        string            // the attribute name, which stands before a scope's name with a hyphen; "": nothing does
	place       map[string]string // attributes of native entries, without credentials and name
	options     []string          // those of Options that BuildKit's own exporter knows
	credentials map[string]string // from the line; empty: the SDK's default chain
	source      *objects
	destination *objects // may be the same as source
}

// Scopes implements [Backend].
func (c *objectCache) Scopes() Scopes { return c.source }

// Destination implements [GatewayWritten].
func (c *objectCache) Destination() Store { return c.destination }

// InPlace implements [GatewayWritten].
func (c *objectCache) InPlace() bool { return true }

// Imports implements [Backend]: one entry for each name, because BuildKit's s3 cache reads
// only the first name of an entry.
func (c *objectCache) Imports(p scope.Plan) []client.CacheOptionsEntry {
	return importEach(p, c.Type(), c.attrs)
}

// Exports implements [Backend]. These caches of BuildKit take no media types, and only some of
// them a compression.
func (c *objectCache) Exports(p scope.Plan) []client.CacheOptionsEntry {
	if p.Write == "" {
		return nil
	}
	attrs := c.attrs(p.Write)
	options := c.Options()
	for _, name := range c.options {
		if value := options[name]; value != "" {
			attrs[name] = value
		}
	}
	return []client.CacheOptionsEntry{{Type: c.Type(), Attrs: attrs}}
}

func (c *objectCache) attrs(n scope.Name) map[string]string {
	attrs := maps.Clone(c.place)
	maps.Copy(attrs, c.credentials)
	attrs["name"] = string(n)
	if c.name != "" {
		attrs["name"] = c.name + "-" + string(n)
	}
	return attrs
}
