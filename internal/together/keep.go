package together

import (
	"context"

	"github.com/moby/buildkit/client"
	gw "github.com/moby/buildkit/frontend/gateway/client"

	"github.com/warmlayer/warmlayer/internal/crash"
)

// keeper is a request to a builder that has the steps of all targets for as long as any of them builds. Without it BuildKit would forget
// the steps of the target that ends first, find them again by what was sent and not by their contents, and so not find what follows them
// in a cache that was imported.
type keeper struct {
	requests chan gw.SolveRequest
	end      context.CancelFunc
	ended    chan struct{} // closed when it has ended
}

// Keep keeps the steps of a target's result, which is made with these imports. on is the builder, and opt are options of a solve on it:
// those of the first call are used.
func (s *Shared) Keep(ctx context.Context, on *client.Client, opt client.SolveOpt, cacheImports []client.CacheOptionsEntry, r *gw.Result) {
	inputs, err := inputsOf(ctx, r)
	if err != nil {
		return // a builder that does not tell the steps finds fewer of them
	}
	var imports []gw.CacheOptionsEntry
	for _, i := range cacheImports {
		imports = append(imports, gw.CacheOptionsEntry{Type: i.Type, Attrs: i.Attrs})
	}
	s.mu.Lock()
	if s.keeper == nil {
		s.keeper = s.newKeeper(on, opt)
	}
	k := s.keeper
	s.mu.Unlock()
	for _, in := range inputs {
		select {
		case k.requests <- gw.SolveRequest{Definition: in.definition, CacheImports: imports, Evaluate: true}:
		case <-k.ended:
		case <-ctx.Done():
		}
	}
}

// newKeeper begins a request.
func (s *Shared) newKeeper(on *client.Client, opt client.SolveOpt) *keeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &keeper{requests: make(chan gw.SolveRequest), end: cancel, ended: make(chan struct{})}
	opt.Internal, opt.AllowedEntitlements = true, s.entitlements
	statuses := make(chan *client.SolveStatus)
	go func() {
		defer crash.Catch()
		for range statuses { // the targets' own builds show them
		}
	}()
	go func() {
		defer crash.Catch()
		defer close(k.ended)
		_, _ = on.Build(ctx, opt, "warmlayer", k.serve, statuses) // it ends with ctx
	}()
	return k
}

// serve makes what it is asked for, until the end.
func (k *keeper) serve(ctx context.Context, c gw.Client) (*gw.Result, error) {
	for {
		select {
		case request := <-k.requests:
			go func() {
				defer crash.Catch()
				_, _ = c.Solve(ctx, request) // the target's own build has the same error
			}()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
