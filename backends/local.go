package backends

import (
	"maps"

	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/scope"
)

// Local is a cache in a directory: an OCI layout whose index has one tag for each
// scope. A daemon of ours reaches it through the gateway, lazily and with every
// compression; for a remote builder BuildKit's client streams it.
type Local struct {
	src, dest string // directories; the same one unless both were given
	prefix    string // "", or the given tag and a hyphen
	reset     bool   // after an export, drop blobs that no scope names
	strict    bool
	options   map[string]string
}

func (l *Local) String() string {
	if l.src == l.dest {
		return "local " + l.dest
	}
	return "local " + l.src + " → " + l.dest
}

// Strict implements [Backend].
func (l *Local) Strict() bool { return l.strict }

// Dirs are the directories of the cache, which a build context leaves out.
func (l *Local) Dirs() []string { return []string{l.src, l.dest} }

// Scopes implements [Keeper].
func (l *Local) Scopes() Scopes { return &Layout{dir: l.src, prefix: l.prefix} }

// Destination implements [Gated].
func (l *Local) Destination() Store {
	return &Layout{dir: l.dest, prefix: l.prefix, reset: l.reset, writes: true}
}

// InPlace implements [Gated].
func (l *Local) InPlace() bool { return l.src == l.dest }

// Options implements [Gated].
func (l *Local) Options() map[string]string { return maps.Clone(l.options) }

// Imports implements [Backend].
func (l *Local) Imports(p scope.Plan) []client.CacheOptionsEntry {
	return importEach(p, "local", func(n scope.Name) map[string]string {
		return map[string]string{"src": l.src, "tag": l.prefix + string(n)}
	})
}

// Exports implements [Backend].
func (l *Local) Exports(p scope.Plan) []client.CacheOptionsEntry {
	if p.Write == "" {
		return nil
	}
	attrs := maps.Clone(l.options)
	attrs["dest"], attrs["tag"] = l.dest, l.prefix+string(p.Write)
	if l.reset {
		attrs["reset"] = "true"
	}
	return []client.CacheOptionsEntry{{Type: "local", Attrs: attrs}}
}
