package backends

import (
	"maps"
	"strings"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/scope"
)

// objectCache is the part that backends on object stores share: everything but their
// attributes and their service.
type objectCache struct {
	kind        string            // "s3", as BuildKit calls it
	name        string            // prefix of a scope's name: "", or the attribute name and a hyphen
	given       map[string]string // attributes of native entries, without credentials and name
	credentials map[string]string // from the line; empty: the SDK's default chain
	options     map[string]string // export attributes that BuildKit applies
	strict      bool
	source      *objects
	destination *objects // may be the same as source
}

// credentialsTimeout bounds the search for credentials outside the line, part of which uses
// the network. It usually ends before probe-timeout, so that the error names the missing
// credentials instead of "no answer".
const credentialsTimeout = 4 * time.Second

// SecretVariables are the environment variables that hold credentials of stores.
var SecretVariables = []string{
	"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
	"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD", "IDENTITY_HEADER", "MSI_SECRET",
	"ACTIONS_RUNTIME_TOKEN", "GITHUB_TOKEN",
}

// folder is a prefix with a slash at its end, unless it is empty.
func folder(prefix string) string {
	if prefix == "" || strings.HasSuffix(prefix, "/") {
		return prefix
	}
	return prefix + "/"
}

// nativeOnly refuses attributes without effect, and unsafe credentials, where a remote builder
// reaches the store itself.
func (c *objectCache) nativeOnly(p *problems, attrs map[string]string, o Options) {
	if o.Builder.Address.Managed() {
		return
	}
	for _, name := range []string{"compression", "compression-level", "force-compression", "oci-mediatypes", "image-manifest"} {
		if pick(name, attrs, o.Attrs) != "" {
			p.add("leave it out, or use builder=embedded", "%s is not possible on a remote builder: BuildKit writes layers of %s caches with gzip", name, p.kind)
		}
		delete(c.options, name)
	}
	if len(c.credentials) > 0 && o.Builder.Plaintext() {
		p.add("reach the builder through ssh:// or unix://, or over TLS (builder-cacert), or leave them out and give the builder credentials of its own",
			"credentials would go to the builder over plain tcp://")
	}
}

// Strict implements [Backend].
func (c *objectCache) Strict() bool { return c.strict }

// Scopes implements [Keeper].
func (c *objectCache) Scopes() Scopes { return c.source }

// Destination implements [Gated].
func (c *objectCache) Destination() Store { return c.destination }

// InPlace implements [Gated].
func (c *objectCache) InPlace() bool { return true }

// Options implements [Gated].
func (c *objectCache) Options() map[string]string { return maps.Clone(c.options) }

// Imports implements [Backend]: one entry for each name, because BuildKit's s3 cache reads
// only the first name of an entry.
func (c *objectCache) Imports(p scope.Plan) []client.CacheOptionsEntry {
	return importEach(p, c.kind, c.attrs)
}

// Exports implements [Backend]. These caches of BuildKit take no compression and no media types.
func (c *objectCache) Exports(p scope.Plan) []client.CacheOptionsEntry {
	if p.Write == "" {
		return nil
	}
	attrs := c.attrs(p.Write)
	attrs["mode"] = c.options["mode"]
	return []client.CacheOptionsEntry{{Type: c.kind, Attrs: attrs}}
}

func (c *objectCache) attrs(n scope.Name) map[string]string {
	attrs := maps.Clone(c.given)
	maps.Copy(attrs, c.credentials)
	attrs["name"] = c.name + string(n)
	return attrs
}
