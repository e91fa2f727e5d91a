package backends

import (
	"context"
	"sync"
	"time"

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
			checks.Go(func() { errs[i] = (&Layout{dir: c.Src}).check(ctx) })
		}
	}
	checks.Wait()
	return errs
}

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
