package ahead

import (
	"context"
	"slices"

	gw "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/llbgraph"
)

// BuildKit fetches and unpacks the layers of a cached step when a step that stands on it is about to run, and not
// before that step's other inputs exist: in
//
//	FROM debian
//	COPY --from=deps /deps /deps
//	COPY --from=build /out /app
//
// the layer of the first COPY waits, cached, until the stage build has run. Here it is unpacked meanwhile. What will
// be needed is what steps behind a step that runs stand on, besides that step. It may be in vain, where that step
// makes what it made before; so it does not begin before the layers that the step itself needs have been fetched.
//
// A step runs when it says so. It says so when its inputs are unpacked, which takes long; before, one sees only that
// they are. Then the step is the one that uses them and is not cached.

// unpacks are the layers that are unpacked ahead.
type unpacks struct {
	asked    map[llbgraph.Output]bool
	needed   map[digest.Digest]bool // steps that run: what steps behind them stand on was asked for
	unpacked map[digest.Digest]bool // steps whose users were asked for
	users    [][]digest.Digest      // of each of these
	begun    bool                   // the client was asked for
	client   gw.Client              // once ready is closed
	ready    chan struct{}
	slots    chan struct{}
}

// maxUnpacks is how many file systems are unpacked at once, beside what BuildKit unpacks itself.
const maxUnpacks = 2

// maxUsers is the most steps that may use the layers that are being unpacked: each of them is asked for.
const maxUsers = 8

func newUnpacks() unpacks {
	return unpacks{
		asked: map[llbgraph.Output]bool{}, needed: map[digest.Digest]bool{}, unpacked: map[digest.Digest]bool{},
		ready: make(chan struct{}), slots: make(chan struct{}, maxUnpacks),
	}
}

// unpacking takes that the layers of a cached step are being unpacked: one of its users will run. Those that are cached
// say so when they are asked for, and the last one that does not is it.
func (a *Ahead) unpacking(step digest.Digest) {
	if !a.options.Unpack || a.unpacks.unpacked[step] {
		return
	}
	a.unpacks.unpacked[step] = true
	users := a.plan.Users(step)
	if len(users) > maxUsers {
		return
	}
	a.unpacks.users = append(a.unpacks.users, users)
	for _, user := range users {
		for _, o := range a.plan.Outputs(user) {
			a.ask(func(c gw.Client) { _, _ = a.solve(c, o, true) }) // the status stream tells the answer
		}
	}
}

// last takes the last user of unpacked layers that is not cached for one that runs.
func (a *Ahead) last() {
	for _, users := range a.unpacks.users {
		open := slices.DeleteFunc(slices.Clone(users), a.steps.Cached)
		if len(open) == 1 {
			a.runs(open[0])
		}
	}
}

// runs begins to unpack what the steps behind a step that runs stand on.
func (a *Ahead) runs(step digest.Digest) {
	if !a.options.Unpack || a.unpacks.needed[step] {
		return
	}
	a.unpacks.needed[step] = true
	behind := a.plan.Behind(step)
	for user := range behind {
		if a.steps.Cached(user) || a.steps.Executed(user) {
			continue
		}
		for _, o := range a.plan.Inputs(user) {
			if o.Step != step && !behind[o.Step] && a.plan.Layered(o.Step) {
				a.unpack(o)
			}
		}
	}
}

// unpack fetches and unpacks the layers of an output.
func (a *Ahead) unpack(o llbgraph.Output) {
	if a.unpacks.asked[o] || a.steps.Executed(o.Step) {
		return
	}
	a.unpacks.asked[o] = true
	a.ask(func(c gw.Client) {
		a.unpacks.slots <- struct{}{}
		defer func() { <-a.unpacks.slots }()
		if a.within.Err() != nil {
			return
		}
		defer a.builder.Time("unpack " + a.steps.Name(o.Step))()
		if ref, err := a.solve(c, o, false); err == nil && ref != nil {
			_, _ = ref.StatFile(a.within, gw.StatRequest{Path: "."}) // which mounts it
		}
	})
}

func (a *Ahead) solve(c gw.Client, o llbgraph.Output, evaluate bool) (gw.Reference, error) {
	def, err := a.plan.Definition(o)
	if err != nil {
		return nil, err
	}
	r, err := c.Solve(a.within, gw.SolveRequest{Definition: def.ToPB(), Evaluate: evaluate})
	if err != nil {
		return nil, err
	}
	return r.SingleRef()
}

// ask does something with a client of the gateway. There is one for all that is asked.
func (a *Ahead) ask(do func(gw.Client)) {
	if !a.unpacks.begun {
		a.unpacks.begun = true
		a.wg.Go(func() {
			defer crash.Catch()
			_ = a.builder.Ask(a.within, func(ctx context.Context, c gw.Client) {
				a.unpacks.client = c
				close(a.unpacks.ready)
				<-ctx.Done()
			})
		})
	}
	a.wg.Go(func() {
		defer crash.Catch()
		select {
		case <-a.unpacks.ready:
			do(a.unpacks.client)
		case <-a.within.Done():
		}
	})
}
