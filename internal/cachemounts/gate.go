package cachemounts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	gw "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/warmlayer/warmlayer/internal/crash"
	"github.com/warmlayer/warmlayer/internal/llbgraph"
)

// A step that uses a mount runs only if it says that it begins, and is not cached. It says so some ten milliseconds
// before its process starts. Then its evaluation is cancelled, which BuildKit does not remember as a failure
// (v0.34.2, solver/jobs.go, sharedOp.Exec), its mounts are restored, and the result is evaluated again on the same
// builder. Other steps that run meanwhile go on, because their results are asked for before the cancellation.

// gate is a step that must not run before its mounts are restored.
type gate struct {
	held  bool          // it has begun to run: what it says is kept back
	said  events        // while held
	ended chan struct{} // closed when it has ended
	ok    bool          // it ended by itself, and was not stopped; once ended is closed
}

// events are what the status stream says of a step.
type events = client.SolveStatus

func newGate() *gate { return &gate{ended: make(chan struct{})} }

// Filter is the part of a status that is passed on. What a step says that has begun to run is kept back until it is
// decided whether it goes on; nothing is shown of a step that is stopped.
func (m *Mounts) Filter(s *client.SolveStatus) *client.SolveStatus {
	if m == nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &client.SolveStatus{}
	for _, r := range m.ready {
		out.Vertexes, out.Statuses = append(out.Vertexes, r.Vertexes...), append(out.Statuses, r.Statuses...)
		out.Logs, out.Warnings = append(out.Logs, r.Logs...), append(out.Warnings, r.Warnings...)
	}
	m.ready = nil
	for _, v := range s.Vertexes {
		m.hushed = m.hushed && (v.Error == "" || cancelled(v)) // after a failure the cancelled steps are not ours
		if v.Name != programName && !m.keepsBack(v) && !(m.hushed && cancelled(v)) {
			out.Vertexes = append(out.Vertexes, v)
		}
	}
	m.note(out.Vertexes)
	out.Statuses = append(out.Statuses, pass(m, s.Statuses, func(v *client.VertexStatus) digest.Digest { return v.Vertex }, func(e *events) *[]*client.VertexStatus { return &e.Statuses })...)
	out.Logs = append(out.Logs, pass(m, s.Logs, func(v *client.VertexLog) digest.Digest { return v.Vertex }, func(e *events) *[]*client.VertexLog { return &e.Logs })...)
	out.Warnings = append(out.Warnings, pass(m, s.Warnings, func(v *client.VertexWarning) digest.Digest { return v.Vertex }, func(e *events) *[]*client.VertexWarning { return &e.Warnings })...)
	return out
}

// pass is the part of what steps say that is passed on. What a held step says is kept with it.
func pass[T any](m *Mounts, all []T, step func(T) digest.Digest, kept func(*events) *[]T) (passed []T) {
	for _, v := range all {
		if g := m.holding(step(v)); g != nil {
			said := kept(&g.said)
			*said = append(*said, v)
		} else {
			passed = append(passed, v)
		}
	}
	return passed
}

func (m *Mounts) holding(step digest.Digest) *gate {
	if g := m.gates[step]; g != nil && g.held {
		return g
	}
	return nil
}

// cancelled tells whether a step ended because the evaluation was.
func cancelled(v *client.Vertex) bool {
	return v.Completed != nil && strings.Contains(v.Error, context.Canceled.Error())
}

// keepsBack takes what a gate's step says of itself, and tells whether that is kept back.
func (m *Mounts) keepsBack(v *client.Vertex) bool {
	g := m.gates[v.Digest]
	switch {
	case g == nil:
		return false
	case v.Cached && !g.held:
		delete(m.gates, v.Digest)
		return false
	case v.Started == nil && !g.held:
		return false
	}
	g.said.Vertexes = append(g.said.Vertexes, v)
	if !g.held {
		g.held = true
		select {
		case m.trips <- struct{}{}:
		default:
		}
	}
	if v.Completed != nil && open(g.ended) {
		g.ok = !cancelled(v)
		close(g.ended)
	}
	return true
}

func open(c chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		return true
	}
}

// note remembers which steps run, and which have.
func (m *Mounts) note(vertexes []*client.Vertex) {
	for _, v := range vertexes {
		switch {
		case v.Cached || v.Started == nil || len(v.Inputs) == 0:
		case v.Completed == nil:
			m.busy[v.Digest] = true
		default:
			delete(m.busy, v.Digest)
			if v.Error == "" && len(m.steps[v.Digest]) > 0 {
				m.ran[v.Digest] = true
			}
		}
	}
}

// Pass evaluates the result that a frontend has returned, and restores the mounts of each step before it runs. When
// it returns, BuildKit has made the result, or has found out why it cannot; only then nothing is passed that has no
// wanted mount. The client is that of the build itself.
func (m *Mounts) Pass(ctx context.Context, c gw.Client, r *gw.Result, graph llbgraph.Graph) {
	if m == nil || !m.plan(graph) {
		return
	}
	p := &passing{Mounts: m, client: c}
	p.within, p.end = context.WithCancel(ctx)
	defer p.end()
	go func() {
		defer crash.Catch()
		_, _ = p.find(p.within, "") // so that no step is stopped for which there is nothing
	}()
	defer m.release(m.held()...)
	for p.evaluate(ctx, r) {
	}
}

// passing is one call of Pass.
type passing struct {
	*Mounts
	client gw.Client
	within context.Context //nolint:containedctx // of what keeps steps running, until end
	end    context.CancelFunc
}

// evaluate evaluates the result until a step has to be stopped, and restores the mounts of that step. It returns
// false when there is nothing left to do.
func (p *passing) evaluate(ctx context.Context, r *gw.Result) (again bool) {
	evaluating, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer crash.Catch()
		defer close(ended)
		evaluate(evaluating, r)
	}()
	for {
		select {
		case <-ended:
			return false
		case <-p.trips:
		}
		if p.stored.asked() && !p.needs(ctx, p.held()) {
			continue
		}
		break
	}
	p.keepRunning()
	p.hush()
	stop()
	<-ended
	p.restore(ctx, p.stopped(ctx))
	return ctx.Err() == nil
}

// evaluate makes the results of all platforms. Errors are those that BuildKit meets again when it exports them.
func evaluate(ctx context.Context, r *gw.Result) {
	var eg errgroup.Group
	_ = r.EachRef(func(ref gw.Reference) error {
		eg.Go(func() error {
			defer crash.Catch()
			return ref.Evaluate(ctx)
		})
		return nil
	})
	_ = eg.Wait()
}

// held are the steps that have begun to run, and wait for a decision.
func (m *Mounts) held() (all []digest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d, g := range m.gates {
		if g.held {
			all = append(all, d)
		}
	}
	return all
}

// needs tells whether one of the steps needs a mount for which a scope has content. The others go on.
func (p *passing) needs(ctx context.Context, steps []digest.Digest) bool {
	needed := false
	for _, step := range steps {
		if len(p.missing(ctx, step)) > 0 {
			needed = true
		} else {
			p.release(step)
		}
	}
	return needed
}

// missing are the mounts of a step that scopes have content for, and which were not restored.
func (p *passing) missing(ctx context.Context, step digest.Digest) (all []*mount) {
	p.mu.Lock()
	mounts := p.steps[step]
	p.mu.Unlock()
	for _, mount := range mounts {
		if mount.settled {
			continue
		}
		e, err := p.find(ctx, mount.use.Key())
		if e == nil {
			mount.settled, mount.outcome.Err = true, err
			continue
		}
		all = append(all, mount)
	}
	return all
}

// find asks the scopes for a mount.
func (p *passing) find(ctx context.Context, key string) (*entry, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.Timeout, fmt.Errorf("no answer within %s (cache-timeout)", p.Timeout))
	defer cancel()
	return p.stored.find(ctx, key)
}

// release lets steps go on: what they said is passed on.
func (m *Mounts) release(steps ...digest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, step := range steps {
		if g := m.gates[step]; g != nil {
			m.ready = append(m.ready, g.said)
			delete(m.gates, step)
		}
	}
}

// hush hides that steps are cancelled. One that began with the held step is, too, and begins again.
func (m *Mounts) hush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hushed = true
}

// keepRunning asks for the results of all other steps that run, so that they go on.
func (p *passing) keepRunning() {
	p.mu.Lock()
	var definitions []gw.SolveRequest
	for step := range p.busy {
		for _, o := range p.graph.Outputs(step)[:1] {
			if def, err := p.graph.Definition(o); err == nil {
				definitions = append(definitions, gw.SolveRequest{Definition: def.ToPB()})
			}
		}
	}
	p.mu.Unlock()
	var asked errgroup.Group
	for _, request := range definitions {
		asked.Go(func() error {
			defer crash.Catch()
			r, err := p.client.Solve(p.within, request)
			if err == nil {
				go func() {
					defer crash.Catch()
					evaluate(p.within, r)
				}()
			}
			return err
		})
	}
	_ = asked.Wait()
}

// stopGrace is how long a step may take to end that is stopped.
const stopGrace = 30 * time.Second

// stopped waits until the held steps have ended. Those that ended well before they could be stopped are passed on;
// the others are returned.
func (p *passing) stopped(ctx context.Context) (all []digest.Digest) {
	grace, cancel := context.WithTimeoutCause(ctx, stopGrace, errors.New("the step did not stop"))
	defer cancel()
	for _, step := range p.held() {
		p.mu.Lock()
		g := p.gates[step]
		p.mu.Unlock()
		select {
		case <-g.ended:
		case <-grace.Done():
		}
		p.mu.Lock()
		ok := g.ok
		p.mu.Unlock()
		if ok {
			for _, mount := range p.missing(ctx, step) {
				mount.late = true
			}
			p.release(step)
			continue
		}
		all = append(all, step)
	}
	return all
}

// restore restores the mounts of steps, which then may run: what they said before is forgotten.
func (p *passing) restore(ctx context.Context, steps []digest.Digest) {
	wanted := map[*mount]bool{}
	for _, step := range steps {
		for _, mount := range p.missing(ctx, step) {
			wanted[mount] = true
		}
	}
	if len(wanted) > 0 {
		p.restoreAll(ctx, wanted)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, step := range steps {
		delete(p.gates, step)
	}
}
