package backends

import (
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/scope"
)

// Local is a cache in a directory: an OCI layout whose index has one tag for each
// scope. A managed builder reaches it through the gateway, lazily and with every
// compression; for a remote builder BuildKit's client streams it.
type Local struct{ *cachespec.Local }

func newLocal(c *cachespec.Local, _ authn.Keychain) *Local { return &Local{c} }

// Scopes implements [Backend].
func (l *Local) Scopes() Scopes { return &Layout{dir: l.Src, prefix: l.TagPrefix} }

// Destination implements [GatewayWritten].
func (l *Local) Destination() Store {
	return &Layout{dir: l.Dest, prefix: l.TagPrefix, reset: l.Reset, writes: true}
}

// InPlace implements [GatewayWritten].
func (l *Local) InPlace() bool { return l.Src == l.Dest }

// Imports implements [Backend].
func (l *Local) Imports(p scope.Plan) []client.CacheOptionsEntry {
	return importEach(p, l.Type(), func(n scope.Name) map[string]string {
		return map[string]string{"src": l.Src, "tag": l.TagPrefix + string(n)}
	})
}

// Exports implements [Backend].
func (l *Local) Exports(p scope.Plan) []client.CacheOptionsEntry {
	if p.Write == "" {
		return nil
	}
	attrs := l.Options()
	attrs["dest"], attrs["tag"] = l.Dest, l.TagPrefix+string(p.Write)
	if l.Reset {
		attrs["reset"] = "true"
	}
	return []client.CacheOptionsEntry{{Type: l.Type(), Attrs: attrs}}
}
