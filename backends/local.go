package backends

import (
	"context"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/buildkit/client"

	"github.com/warmlayer/warmlayer/internal/cachespec"
	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/layout"
	"github.com/warmlayer/warmlayer/scope"
)

// Local is a cache in a directory: an OCI layout whose index has one tag for each
// scope. A managed builder reaches it through the gateway, lazily and with every
// compression; for a remote builder BuildKit's client streams it.
type Local struct{ *cachespec.Local }

func newLocal(c *cachespec.Local, _ authn.Keychain) *Local { return &Local{c} }

// Unreadable checks the lines of cache-from whose directories BuildKit's client reads in this
// process, without a deadline. It returns one error or nil for each line: why the directory's index
// cannot be read within timeout. A missing index is no error.
func Unreadable(ctx context.Context, from []cachespec.Cache, timeout time.Duration) []error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, noAnswer(timeout))
	defer cancel()
	errs := make([]error, len(from))
	var checks sync.WaitGroup
	for i, line := range from {
		if c, ok := line.Config.(*cachespec.Local); ok {
			checks.Go(func() {
				defer crash.Catch()
				errs[i] = (&layout.Layout{Dir: c.Src}).Check(ctx)
			})
		}
	}
	checks.Wait()
	return errs
}

// Scopes implements [Backend].
func (l *Local) Scopes() Scopes { return &directory{&layout.Layout{Dir: l.Src}, l.TagPrefix} }

// Destination implements [GatewayWritten].
func (l *Local) Destination() Store {
	return &directory{&layout.Layout{Dir: l.Dest, Reset: l.Reset, Writes: true}, l.TagPrefix}
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

// directory is a layout as a store: each scope is a tag.
type directory struct {
	*layout.Layout
	prefix string // of tags, before a scope's name
}

func (d *directory) tag(n scope.Name) string { return d.prefix + string(n) }

// Manifest implements [Scopes].
func (d *directory) Manifest(ctx context.Context, n scope.Name) (Manifest, error) {
	return parsed(d.Layout.Manifest(ctx, d.tag(n)))
}

// parsed is a manifest as a directory keeps it, unless reading it has failed.
func parsed(m layout.Manifest, err error) (Manifest, error) {
	if err != nil {
		return Manifest{}, err
	}
	out, err := ParseManifest(m.Raw, m.MediaType)
	out.Version = m.Version()
	return out, err
}

// PutManifest implements [Scopes].
func (d *directory) PutManifest(ctx context.Context, n scope.Name, m Manifest) error {
	return d.Swap(ctx, n, AnyVersion, m)
}

// Swap implements [Scopes].
func (d *directory) Swap(ctx context.Context, n scope.Name, version string, m Manifest) error {
	return d.Layout.PutManifest(ctx, d.tag(n), version, layout.Manifest{Raw: m.Raw, MediaType: m.MediaType}, m.Blobs())
}
